//! The conversation with the provider (OpenID Connect Core 1.0, RFC 6749, RFC 7636, RFC 9207).

use std::{sync::Arc, time::Duration};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64URL},
};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use kernel::{Internal, Secret};
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::super::{
    discovery::{Discovery, Metadata},
    jwt::{Verifier, sha256},
    keys::READ_TIMEOUT,
};
use crate::{
    Error, Fetch, Limits,
    model::{algorithm::Algorithm, json::read_object},
};

const MAX_ANSWER_BYTES: usize = 128 * 1024;

pub(super) struct Provider {
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) client_secret: Option<Secret>,
    pub(super) discovery: Arc<Discovery>,
    pub(super) verifier: Verifier,
    pub(super) fetch: Arc<dyn Fetch>,
}

/// What the token endpoint gave.
pub(super) struct Tokens {
    /// Of the ID token; a refresh may bring none.
    pub(super) claims: Option<Map<String, Value>>,
    pub(super) access: String,
    pub(super) expires_in: Option<Duration>,
    pub(super) refresh: Option<String>,
}

/// Why it gave nothing.
pub(super) enum NoTokens {
    /// It said no; in words for operators.
    Refused(String),
    /// It did not answer, or not sensibly.
    Away(String),
}

impl From<NoTokens> for Error {
    fn from(why: NoTokens) -> Self {
        match why {
            NoTokens::Refused(why) => Self::Login {
                message: "The provider did not confirm the sign-in. Start again.".into(),
                reason: Some(Internal::new(why)),
            },
            NoTokens::Away(why) => Self::unavailable(why),
        }
    }
}

impl Provider {
    pub(super) async fn metadata(&self) -> Result<Metadata, Error> {
        let found = self.discovery.metadata().await;
        found.map(|known| known.0.clone()).map_err(Error::unavailable)
    }

    /// The answer to the code; the ID token in it is verified, and made for this very login.
    pub(super) async fn redeem(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
        nonce: &str,
    ) -> Result<Tokens, NoTokens> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        let tokens = self.ask(&form, Some(nonce)).await?;
        if tokens.claims.is_none() {
            return Err(NoTokens::Refused("the answer has no ID token".to_owned()));
        }
        Ok(tokens)
    }

    pub(super) async fn refresh(&self, token: &str) -> Result<Tokens, NoTokens> {
        self.ask(&[("grant_type", "refresh_token"), ("refresh_token", token)], None).await
    }

    async fn ask(&self, form: &[(&str, &str)], nonce: Option<&str>) -> Result<Tokens, NoTokens> {
        let away = |why: &dyn std::fmt::Display| NoTokens::Away(format!("{}: {why}", self.issuer));
        let metadata = self.metadata().await.map_err(|e| away(&e))?;
        let endpoint = metadata.token_endpoint.as_deref().ok_or_else(|| away(&"no token_endpoint"))?;
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form);
        let mut request = Request::post(endpoint)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json");
        match &self.client_secret {
            Some(secret) if !metadata.secret_in_body => {
                // RFC 6749 §2.3.1: both are form-encoded before they are joined.
                let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encode(&self.client_id), encode(secret.expose()));
                let mut value =
                    HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).map_err(|e| away(&e))?;
                value.set_sensitive(true);
                request = request.header(header::AUTHORIZATION, value);
            }
            secret => {
                body.append_pair("client_id", &self.client_id);
                if let Some(secret) = secret {
                    body.append_pair("client_secret", secret.expose());
                }
            }
        }
        let request = request.body(Bytes::from(body.finish())).map_err(|e| away(&e))?;
        let limits = Limits { timeout: READ_TIMEOUT, max_body_bytes: MAX_ANSWER_BYTES };
        let answer = self.fetch.fetch(request, limits).await.map_err(|e| away(&e))?;
        let object = read_object(answer.body());
        if answer.status() != StatusCode::OK {
            let text =
                |name: &str| object.as_ref().and_then(|o| o.get(name)).and_then(Value::as_str).unwrap_or_default();
            let why = format!("{} {} {}", answer.status(), text("error"), text("error_description"));
            let is_no = answer.status().is_client_error() && answer.status() != StatusCode::TOO_MANY_REQUESTS;
            return Err(if is_no { NoTokens::Refused(why) } else { away(&why) });
        }
        let object = object.ok_or_else(|| away(&"no JSON object"))?;
        self.tokens(&object, nonce).await
    }

    async fn tokens(&self, object: &Map<String, Value>, nonce: Option<&str>) -> Result<Tokens, NoTokens> {
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let access = text("access_token").unwrap_or_default().to_owned();
        let claims = match text("id_token") {
            None => None,
            Some(token) => Some(self.id_token(token, nonce, &access).await?),
        };
        Ok(Tokens {
            claims,
            access,
            expires_in: object.get("expires_in").and_then(Value::as_u64).map(Duration::from_secs),
            refresh: text("refresh_token").map(str::to_owned),
        })
    }

    /// OpenID Connect Core §3.1.3.7.
    async fn id_token(&self, token: &str, nonce: Option<&str>, access: &str) -> Result<Map<String, Value>, NoTokens> {
        let good = match self.verifier.verify(token).await {
            Ok(good) => good,
            Err(Error::Unavailable(why)) => return Err(NoTokens::Away(why.for_operators().to_owned())),
            Err(e) => return Err(NoTokens::Refused(e.to_string())),
        };
        let claims = good.claims;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let refused = |why: &str| Err(NoTokens::Refused(why.to_owned()));
        if text("sub").is_none_or(str::is_empty) {
            return refused("the ID token does not say who it is of");
        }
        if nonce.is_some() && text("nonce") != nonce {
            return refused("the ID token was made for another login (nonce)");
        }
        let is_for_several = claims.get("aud").and_then(Value::as_array).is_some_and(|list| list.len() > 1);
        let party = text("azp");
        if party.is_some_and(|party| party != self.client_id) || (is_for_several && party.is_none()) {
            return refused("the ID token was made for another application (azp)");
        }
        let hash = text("at_hash").filter(|_| !access.is_empty());
        if let Some(hash) = hash.filter(|_| is_sha256(good.algorithm))
            && hash != BASE64URL.encode(&sha256(access.as_bytes())[..16])
        {
            return refused("the access token is not the one of the ID token (at_hash)");
        }
        Ok(claims)
    }
}

fn is_sha256(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::Rs256 | Algorithm::Ps256 | Algorithm::Es256)
}
