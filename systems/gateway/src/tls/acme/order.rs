//! One certificate, from the order to the chain (RFC 8555 §7.1).

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use kernel::Timestamp;
use rcgen::{CertificateParams, KeyPair};

use super::{Acme, CHALLENGE_LIFE, account_id, http::Client};
use crate::{
    store::acme as store,
    tls::{
        AcmeChallenge, AcmeSpec,
        material::{hex, read, roots},
    },
};

/// How long the authority may take to look at all hosts, and to sign.
const POLL: RetryPolicy = RetryPolicy::new().timeout(Duration::from_mins(2));

impl Acme {
    /// Gets a chain and its key, in PEM.
    pub(super) async fn get(&self, spec: &AcmeSpec, hosts: &[String]) -> Result<(String, String), String> {
        let account = self.account(spec).await?;
        let identifiers: Vec<_> = hosts.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&identifiers)).await.map_err(|e| format!("order: {e}"))?;
        self.answer(spec, &mut order).await?;
        let status = order.poll_ready(&POLL).await.map_err(|e| format!("the authority looked: {e}"))?;
        if status != OrderStatus::Ready {
            return Err(why(&mut order).await);
        }
        let key = KeyPair::generate().map_err(|e| e.to_string())?;
        let params = CertificateParams::new(hosts.to_vec()).map_err(|e| e.to_string())?;
        let mut params = params;
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(|e| e.to_string())?;
        order.finalize_csr(request.der()).await.map_err(|e| format!("finalize: {e}"))?;
        let chain = order.poll_certificate(&POLL).await.map_err(|e| format!("certificate: {e}"))?;
        Ok((chain, key.serialize_pem()))
    }

    /// Puts down what the authority is to find, and tells it to look.
    async fn answer(&self, spec: &AcmeSpec, order: &mut Order) -> Result<(), String> {
        let kind = match spec.challenge {
            AcmeChallenge::Http01 => ChallengeType::Http01,
            AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        };
        let ends_at = self.clock.now().plus(CHALLENGE_LIFE);
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|e| format!("authorization: {e}"))?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                status => return Err(format!("an authorization is {status:?}")),
            }
            let host = authorization.identifier().to_string();
            let mut challenge = authorization
                .challenge(kind.clone())
                .ok_or_else(|| format!("the authority does not offer {} for {host}", spec.challenge.name()))?;
            let key = challenge.key_authorization();
            let (name, answer) = match spec.challenge {
                AcmeChallenge::Http01 => (challenge.token.clone(), key.as_str().to_owned()),
                AcmeChallenge::TlsAlpn01 => (host, hex(key.digest().as_ref())),
            };
            self.put_challenge(spec.challenge, &name, &answer, ends_at).await?;
            challenge.set_ready().await.map_err(|e| format!("challenge: {e}"))?;
        }
        Ok(())
    }

    async fn put_challenge(
        &self,
        kind: AcmeChallenge,
        name: &str,
        answer: &str,
        ends_at: Timestamp,
    ) -> Result<(), String> {
        store::put_challenge(&self.db, kind.name(), name, answer, ends_at).await.map_err(|e| e.to_string())
    }

    /// The account at a directory: the one that is kept, else a new one.
    async fn account(&self, spec: &AcmeSpec) -> Result<Account, String> {
        let id = account_id(spec);
        let client = || {
            let ca = spec.ca.as_ref().map(|path| read(path).and_then(|pem| roots(&pem))).transpose()?;
            Client::new(ca, &self.clock)
        };
        if let Some(account) = self.known_account(&id, client()?).await? {
            return Ok(account);
        }
        let contact = spec.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: spec.accept_terms, only_return_existing: false };
        let (_, credentials) = Account::builder_with_http(Box::new(client()?))
            .create(&new, spec.directory.clone(), None)
            .await
            .map_err(|e| format!("account: {e}"))?;
        let text = serde_json::to_vec(&credentials).map_err(|e| e.to_string())?;
        let sealed = self.seal.seal(&id, &text)?;
        store::put_account(&self.db, &id, sealed, self.clock.now()).await.map_err(|e| e.to_string())?;
        // Where another node was first, its account is the one.
        let known = self.known_account(&id, client()?).await?;
        known.ok_or_else(|| "the account was not kept".to_owned())
    }

    async fn known_account(&self, id: &str, client: Client) -> Result<Option<Account>, String> {
        let Some(sealed) = store::account(&self.db, id).await.map_err(|e| e.to_string())? else { return Ok(None) };
        let text = self.seal.open(id, &sealed).map_err(|e| format!("the account: {e}"))?;
        let credentials = serde_json::from_slice(&text).map_err(|e| format!("the account: {e}"))?;
        let account = Account::builder_with_http(Box::new(client)).from_credentials(credentials).await;
        account.map(Some).map_err(|e| format!("account: {e}"))
    }
}

/// Why an order did not become ready: what the authority says of each host.
async fn why(order: &mut Order) -> String {
    let mut told = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        let host = authorization.identifier().to_string();
        told.extend(authorization.challenges.iter().filter_map(|c| c.error.as_ref()).map(|e| format!("{host}: {e}")));
    }
    if told.is_empty() { "the authority refused the order and says no reason".to_owned() } else { told.join("; ") }
}
