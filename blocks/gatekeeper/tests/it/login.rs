//! Sign-in with a browser, against a provider in process that checks what a provider checks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64URL},
};
use bytes::Bytes;
use gatekeeper::Chain;
use http::{Request, Response, StatusCode, header};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use crate::world::{ISSUER, Knock, Seen, Signer, World, get, request};

const TOKEN: &str = "https://login.example.com/token";
const CALLBACK: &str = "https://app.example.com/.mainstay/staff/callback";

/// A browser that keeps cookies.
#[derive(Debug, Default, Clone)]
struct Browser(BTreeMap<String, String>);

impl Browser {
    async fn open(&mut self, chain: &Chain, knock: Knock) -> Seen {
        let cookies: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut knock = knock.header("accept", "text/html");
        if !cookies.is_empty() {
            knock = knock.header("cookie", &cookies.join("; "));
        }
        let seen = knock.at(chain).await;
        for cookie in seen.response.get_all(header::SET_COOKIE) {
            let text = cookie.to_str().unwrap();
            assert!(
                text.starts_with("__Host-")
                    && text.contains("; Path=/;")
                    && text.contains("HttpOnly")
                    && text.contains("SameSite=Lax")
                    && text.contains("Secure"),
                "{text}"
            );
            assert!(text.len() < 4096);
            let (name, rest) = text.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if text.contains("Max-Age=0") {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
        seen
    }
}

/// The provider's side.
struct Provider {
    signer: Arc<Signer>,
    /// Code to challenge, nonce and claims to change.
    codes: Arc<Mutex<HashMap<String, (String, Value)>>>,
    refreshes: Arc<Mutex<Vec<String>>>,
    says: Arc<Mutex<Refresh>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Refresh {
    Yes,
    No,
    Away,
}

impl Provider {
    fn start(world: &World) -> Self {
        let this = Self {
            signer: Arc::new(Signer::es256("p")),
            codes: Arc::default(),
            refreshes: Arc::default(),
            says: Arc::new(Mutex::new(Refresh::Yes)),
        };
        world.outside.serve_json(
            "https://login.example.com/.well-known/openid-configuration",
            json!({
                "issuer": ISSUER, "jwks_uri": "https://login.example.com/keys", "token_endpoint": TOKEN,
                "authorization_endpoint": "https://login.example.com/authorize?tenant=1",
                "end_session_endpoint": "https://login.example.com/logout",
                "authorization_response_iss_parameter_supported": true,
            }),
        );
        world.keys(&[&this.signer]);
        let (signer, codes, refreshes, says) =
            (this.signer.clone(), this.codes.clone(), this.refreshes.clone(), this.says.clone());
        world.outside.serve(TOKEN, move |request: &Request<Bytes>| {
            let form: HashMap<String, String> = form_urlencoded::parse(request.body()).into_owned().collect();
            let basic = format!("Basic {}", STANDARD.encode("web+app:s%2Fcret"));
            assert_eq!(request.headers()["authorization"], basic.as_str());
            let no = || {
                let mut response = Response::new(Bytes::from(r#"{"error":"invalid_grant"}"#));
                *response.status_mut() = StatusCode::BAD_REQUEST;
                Some(response)
            };
            let mut answer = json!({ "access_token": "at", "token_type": "Bearer", "expires_in": 300, "refresh_token": format!("rt-{}", refreshes.lock().unwrap().len()) });
            if form["grant_type"] == "refresh_token" {
                match *says.lock().unwrap() {
                    Refresh::Away => return None,
                    Refresh::No => return no(),
                    Refresh::Yes => {}
                }
                refreshes.lock().unwrap().push(form["refresh_token"].clone());
                answer["refresh_token"] = json!(format!("rt-{}", refreshes.lock().unwrap().len()));
                answer["access_token"] = json!("at2");
            } else {
                let Some((challenge, claims)) = codes.lock().unwrap().remove(&form["code"]) else { return no() };
                let digest = ring::digest::digest(&ring::digest::SHA256, form["code_verifier"].as_bytes());
                if BASE64URL.encode(digest) != challenge || form["redirect_uri"] != CALLBACK {
                    return no();
                }
                answer["id_token"] = json!(signer.token(&claims));
            }
            Some(Response::new(Bytes::from(answer.to_string())))
        });
        this
    }

    /// The user agrees: the parameters that the browser comes back with.
    fn agree(&self, world: &World, location: &str, change: &Value) -> String {
        let url = Url::parse(location).unwrap();
        assert!(location.starts_with("https://login.example.com/authorize?tenant=1&"), "{location}");
        let given: HashMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!((given["response_type"].as_str(), given["code_challenge_method"].as_str()), ("code", "S256"));
        assert_eq!((given["redirect_uri"].as_str(), given["scope"].as_str()), (CALLBACK, "openid email"));
        let mut claims = json!({
            "iss": ISSUER, "aud": "web app", "sub": "ann", "email": "ann@example.com", "nonce": given["nonce"],
            "iat": world.now_s(), "exp": world.now_s() + 300,
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let code = format!("code-{}", self.codes.lock().unwrap().len());
        self.codes.lock().unwrap().insert(code.clone(), (given["code_challenge"].clone(), claims));
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("code", code.as_str()), ("state", &given["state"]), ("iss", ISSUER)])
            .finish();
        format!("/.mainstay/staff/callback?{query}")
    }
}

fn policy(world: &World) -> Value {
    let secret = world.folder.path().join("secret");
    std::fs::write(&secret, "s/cret\n").unwrap();
    json!({
        "name": "staff",
        "oidc": { "issuer": ISSUER, "client_id": "web app", "client_secret_file": secret, "scopes": ["email"],
                  "forward_claims": { "x-user": "email" }, "session": { "lifetime": "8h", "idle": "1h" } },
    })
}

async fn sign_in(world: &World, provider: &Provider, chain: &Chain, browser: &mut Browser, to: &str) -> Seen {
    let sent = browser.open(chain, get(to)).await;
    let back = provider.agree(world, sent.got("location").unwrap(), &json!({}));
    browser.open(chain, get(&back)).await
}

#[tokio::test]
async fn a_browser_signs_in_comes_back_and_signs_out() {
    let world = World::new().await;
    let provider = Provider::start(&world);
    let chain = world.chain(json!([policy(&world)]));
    assert_eq!(chain.own_paths(), ["/.mainstay/staff/callback", "/.mainstay/staff/logout"]);
    let mut browser = Browser::default();
    let done = sign_in(&world, &provider, &chain, &mut browser, "/reports?year=2026").await;
    assert_eq!((done.status.as_u16(), done.got("location")), (303, Some("/reports?year=2026")), "{done:?}");
    assert_eq!(done.got("cache-control"), Some("no-store"));
    assert_eq!(browser.0.len(), 1, "the login's cookie is gone: {browser:?}");
    let seen = browser.open(&chain, get("/reports?year=2026").header("x-user", "root").header("cookie", "a=b")).await;
    assert_eq!((seen.status.as_u16(), seen.sent("x-user")), (200, Some("ann@example.com")), "{seen:?}");
    assert_eq!(&*seen.identity.as_ref().unwrap().subject, "ann");
    let cookies: Vec<_> = seen.parts.as_ref().unwrap().headers.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=b"], "the session stays here");

    let stolen = browser.clone();
    let foreign = browser.open(&chain, get("/.mainstay/staff/logout").header("sec-fetch-site", "cross-site")).await;
    assert_eq!(foreign.status, 403);
    let out = browser.open(&chain, get("/.mainstay/staff/logout")).await;
    let to = out.got("location").unwrap();
    assert!(to.starts_with("https://login.example.com/logout?client_id=web+app&post_logout_redirect_uri=https%3A%2F%2Fapp.example.com%2F"), "{to}");
    assert!(browser.0.is_empty(), "{browser:?}");
    assert_eq!(stolen.clone().open(&chain, get("/")).await.status, 303, "a copy of the cookie is worth nothing");
}

#[tokio::test]
async fn programs_are_refused_and_browsers_sent_nowhere_else() {
    let world = World::new().await;
    let provider = Provider::start(&world);
    let chain = world.chain(json!([policy(&world)]));
    for knock in [
        get("/").header("accept", "application/json"),
        get("/").header("accept", "text/html").header("sec-fetch-mode", "cors"),
        request("POST", "/").header("accept", "text/html"),
    ] {
        assert_eq!(knock.at(&chain).await.status, 401);
    }
    for to in ["//evil.example/x", "/\\evil.example", "https://evil.example/"] {
        if to.parse::<http::Uri>().is_err() {
            continue;
        }
        let mut browser = Browser::default();
        let done = sign_in(&world, &provider, &chain, &mut browser, to).await;
        let location = done.got("location").unwrap();
        assert!(location.starts_with('/') && !location.starts_with("//"), "{to}: {location}");
    }
}

/// OIDC-1.
#[tokio::test]
async fn a_login_belongs_to_the_browser_that_began_it() {
    let world = World::new().await;
    let provider = Provider::start(&world);
    let chain = world.chain(json!([policy(&world)]));
    let (mut mine, mut theirs) = (Browser::default(), Browser::default());
    let sent = mine.open(&chain, get("/")).await;
    let back = provider.agree(&world, sent.got("location").unwrap(), &json!({}));
    theirs.open(&chain, get("/")).await;
    let seen = theirs.open(&chain, get(&back)).await;
    assert_eq!((seen.status.as_u16(), &seen.problem()[..23]), (400, "GATEKEEPER_LOGIN_FAILED"), "somebody else's code");
    // Answers that are not those of this login.
    let sent = mine.open(&chain, get("/")).await;
    let location = sent.got("location").unwrap().to_owned();
    for change in [
        json!({ "nonce": "another" }),
        json!({ "nonce": null }),
        json!({ "aud": "other app" }),
        json!({ "aud": ["web app", "other app"] }),
        json!({ "azp": "other app" }),
        json!({ "iss": "https://evil.example" }),
        json!({ "exp": world.now_s() - 100 }),
        json!({ "sub": "" }),
        json!({ "at_hash": "wrong" }),
    ] {
        let back = provider.agree(&world, &location, &change);
        let mut browser = mine.clone();
        let seen = browser.open(&chain, get(&back)).await;
        assert_eq!(seen.status, 400, "{change}: {seen:?}");
        assert_eq!(browser.open(&chain, get("/")).await.status, 303, "{change}: no session");
    }
    let back = provider.agree(&world, &location, &json!({}));
    for (what, changed) in [
        ("another provider", back.replace("iss=https%3A%2F%2Flogin", "iss=https%3A%2F%2Fevil")),
        ("nobody's", back.split("&iss").next().unwrap().to_owned()),
        ("two codes", format!("{back}&code=x")),
        ("another state", back.replace("state=", "state=x")),
        ("an error", back.replace("code=", "error=")),
        ("nothing", "/.mainstay/staff/callback".to_owned()),
    ] {
        assert_eq!(mine.clone().open(&chain, get(&changed)).await.status, 400, "{what}");
    }
    world.later(601);
    assert_eq!(mine.clone().open(&chain, get(&back)).await.status, 400, "too long ago");
}

#[tokio::test]
async fn sessions_end_and_cannot_be_made_or_changed() {
    let world = World::new().await;
    let provider = Provider::start(&world);
    let chain = world.chain(json!([policy(&world)]));
    let mut browser = Browser::default();
    sign_in(&world, &provider, &chain, &mut browser, "/").await;
    let (name, value) = browser.0.iter().next().map(|(n, v)| (n.clone(), v.clone())).unwrap();
    let (count, sealed) = value.split_once('.').unwrap();
    let bytes = BASE64URL.decode(sealed).unwrap();
    for index in [0, 23, 24, 30, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[index] ^= 1;
        let changed = Browser([(name.clone(), format!("{count}.{}", BASE64URL.encode(changed)))].into());
        assert_eq!(changed.clone().open(&chain, get("/")).await.status, 303, "byte {index}");
    }
    for value in ["", "1.", "9.x", "1.AAAA", "0.x", sealed] {
        assert_eq!(
            Browser([(name.clone(), value.to_owned())].into()).open(&chain, get("/")).await.status,
            303,
            "{value}"
        );
    }
    // A session of another policy with the same provider, under the name that this one reads.
    let mut second = policy(&world);
    second["name"] = json!("others");
    second["oidc"]["session"]["cookie"] = json!("ms_staff");
    let others = world.chain(json!([second]));
    assert_eq!(browser.clone().open(&others, get("/")).await.status, 303);
    // Idle for an hour; or used all the time, but for eight.
    let mut idle = browser.clone();
    world.later(3_599);
    assert_eq!(browser.open(&chain, get("/")).await.status, 200);
    world.later(1);
    assert_eq!(idle.open(&chain, get("/")).await.status, 303, "idle");
    for _ in 0..14 {
        assert_eq!(browser.open(&chain, get("/")).await.status, 200);
        world.later(1_800);
    }
    assert_eq!(browser.open(&chain, get("/")).await.status, 303, "eight hours are over");
}

/// OIDC-4.
#[tokio::test]
async fn a_refresh_token_is_used_once_and_a_refusal_ends_the_session() {
    let world = World::new().await;
    let provider = Provider::start(&world);
    let mut policy = policy(&world);
    policy["oidc"]["session"]["refresh"] = json!(true);
    policy["oidc"]["forward_token"] = json!("authorization");
    let chain = world.chain(json!([policy]));
    let mut browser = Browser::default();
    sign_in(&world, &provider, &chain, &mut browser, "/").await;
    assert_eq!(browser.clone().open(&chain, get("/")).await.sent("authorization"), Some("Bearer at"));
    world.later(301);
    let mut tabs: Vec<Browser> = (0..20).map(|_| browser.clone()).collect();
    let opened = futures_util::future::join_all(tabs.iter_mut().map(|tab| tab.open(&chain, get("/")))).await;
    assert!(opened.iter().all(|seen| seen.sent("authorization") == Some("Bearer at2")));
    assert_eq!(*provider.refreshes.lock().unwrap(), ["rt-0"]);
    let mut browser = tabs.remove(0);
    world.later(301);
    *provider.says.lock().unwrap() = Refresh::Away;
    assert_eq!(browser.clone().open(&chain, get("/")).await.status, 200, "borne for a while");
    world.later(700);
    assert_eq!(browser.clone().open(&chain, get("/")).await.status, 503, "and no longer");
    *provider.says.lock().unwrap() = Refresh::No;
    world.later(61);
    assert_eq!(browser.open(&chain, get("/")).await.status, 303, "the provider ended it");
}

#[tokio::test]
async fn much_that_a_provider_says_is_spread_over_cookies() {
    let world = World::new().await;
    let provider = Provider::start(&world);
    let chain = world.chain(json!([policy(&world)]));
    for (bytes, status) in [(6_000, 303), (20_000, 400)] {
        let mut browser = Browser::default();
        let sent = browser.open(&chain, get("/")).await;
        let back = provider.agree(&world, sent.got("location").unwrap(), &json!({ "groups": "g".repeat(bytes) }));
        let done = browser.open(&chain, get(&back)).await;
        // A token of more than 16 KiB is none.
        assert_eq!(done.status, status, "{bytes}: {done:?}");
        let opened = browser.open(&chain, get("/")).await;
        assert_eq!(opened.status == 200, status == 303);
    }
}
