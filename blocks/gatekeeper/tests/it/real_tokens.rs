//! Tokens of PyJWT (Debian's python3-jwt), which is another's code: every algorithm, and RFC 7515's own example.

use std::process::Command;

use gatekeeper::algorithm::{Algorithm, KeySet, Verified};
use serde_json::{Value, json};

use crate::world::{World, get};

const MAKE: &str = r#"
import base64, json, sys
import jwt
from jwt.algorithms import RSAAlgorithm, ECAlgorithm, OKPAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa, ec, ed25519
keys = {
    "rsa": (rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "small": (rsa.generate_private_key(65537, 1024), RSAAlgorithm),
    "p256": (ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "p384": (ec.generate_private_key(ec.SECP384R1()), ECAlgorithm),
    "ed": (ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm),
}
def point(key, crv, size):
    n = key.public_key().public_numbers()
    b64 = lambda i: base64.urlsafe_b64encode(i.to_bytes(size, "big")).rstrip(b"=").decode()
    return {"kty": "EC", "crv": crv, "x": b64(n.x), "y": b64(n.y)}
jwks = []
for name, (key, how) in keys.items():
    if name == "p256":
        jwk = point(key, "P-256", 32)
    elif name == "p384":
        jwk = point(key, "P-384", 48)
    else:
        jwk = json.loads(how.to_jwk(key.public_key()))
    jwk["kid"] = name
    jwk.pop("key_ops", None)
    jwks.append(jwk)
claims = json.loads(sys.argv[1])
of = {"RS256": "rsa", "RS384": "rsa", "RS512": "rsa", "PS256": "rsa", "PS384": "rsa", "PS512": "rsa", "ES256": "p256", "ES384": "p384", "EdDSA": "ed"}
tokens = {alg: jwt.encode(claims, keys[kid][0], algorithm=alg, headers={"kid": kid}) for alg, kid in of.items()}
tokens["small"] = jwt.encode(claims, keys["small"][0], algorithm="RS256", headers={"kid": "small"})
print(json.dumps({"keys": jwks, "tokens": tokens}))
"#;

#[tokio::test]
async fn tokens_of_pyjwt_pass_with_their_algorithm_alone() {
    let world = World::new().await;
    let output = Command::new("/usr/bin/python3").args(["-c", MAKE, &world.claims().to_string()]).output().unwrap();
    assert!(
        output.status.success(),
        "python3-jwt and python3-cryptography: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    world.issuer(&[]);
    world.outside.serve_json("https://login.example.com/keys", json!({ "keys": made["keys"] }));
    for algorithm in Algorithm::ALL {
        let mut policy = world.issuer(&[]);
        world.outside.serve_json("https://login.example.com/keys", json!({ "keys": made["keys"] }));
        policy["jwt"]["algorithms"] = json!([algorithm.as_str()]);
        let chain = world.chain(json!([policy]));
        for (alg, token) in made["tokens"].as_object().unwrap() {
            let expected = if alg == algorithm.as_str() { 200 } else { 401 };
            let seen = get("/").bearer(token.as_str().unwrap()).at(&chain).await;
            assert_eq!(seen.status, expected, "{alg} where {algorithm:?} is taken: {seen:?}");
        }
    }
}

/// RFC 7515 Appendix A.2.
#[test]
fn the_example_of_the_standard() {
    let keys = json!({ "keys": [{ "kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ" }] });
    let set = KeySet::parse(keys.to_string().as_bytes()).unwrap();
    let message = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let signature = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();
    assert!(matches!(set.verify(None, Algorithm::Rs256, message.as_bytes(), &signature), Verified::By(_)));
    assert_eq!(set.verify(None, Algorithm::Rs256, b"another", &signature), Verified::Not);
    assert_eq!(set.verify(None, Algorithm::Rs384, message.as_bytes(), &signature), Verified::Not);
    assert_eq!(set.verify(None, Algorithm::Es256, message.as_bytes(), &signature), Verified::WrongAlgorithm);
    assert_eq!(set.verify(Some("x"), Algorithm::Rs256, message.as_bytes(), &signature), Verified::UnknownKey);
}
