//! Keeps secrets out of logs and traces, whoever wrote them there by mistake.
//!
//! Two nets, since either alone has holes: fields whose name says that they hold a secret, and text that looks like one of
//! ours (`msk_…` keys, `Bearer …`, passwords inside URLs). A net is no licence: rooms still must not log secrets.

use std::borrow::Cow;

/// What stands in the place of a secret.
pub(crate) const MASK: &str = "…";

/// Parts of field names that mean a secret, in lower case.
const SECRET_NAMES: &[&str] =
    &["password", "passwd", "secret", "authorization", "cookie", "api_key", "apikey", "private_key", "credential"];

/// Whether a field of this name may hold a secret.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|s| name.contains(s)) || name == "token" || name.ends_with("_token")
}

/// `text` with every recognised secret masked.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed(text);
    if out.contains("msk_") {
        out = Cow::Owned(mask_after(&out, "msk_", |rest| {
            let id = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
            (rest.as_bytes().get(id) == Some(&b'_')).then(|| (id + 1, word(&rest[id + 1..])))
        }));
    }
    if out.to_ascii_lowercase().contains("bearer ") {
        for prefix in ["Bearer ", "bearer ", "BEARER "] {
            out = Cow::Owned(mask_after(&out, prefix, |rest| Some((0, word(rest)))));
        }
    }
    if out.contains("://") {
        out = Cow::Owned(mask_after(&out, "://", |rest| {
            let authority = rest.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(rest.len());
            let at = rest[..authority].rfind('@')?;
            let colon = rest[..at].find(':')?;
            Some((colon + 1, at - colon - 1))
        }));
    }
    out
}

fn word(text: &str) -> usize {
    text.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"-_.~+/=".contains(b)).count()
}

/// After every `prefix`, masks the bytes `skip..skip + len` that `find` names.
fn mask_after(text: &str, prefix: &str, find: impl Fn(&str) -> Option<(usize, usize)>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(prefix) {
        let (before, after) = rest.split_at(at + prefix.len());
        out.push_str(before);
        rest = after;
        if let Some((skip, len)) = find(after).filter(|(_, len)| *len > 0) {
            out.push_str(&after[..skip]);
            out.push_str(MASK);
            rest = &after[skip + len..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_text_are_masked_and_the_rest_stays() {
        for (given, shown) in [
            ("nothing here", "nothing here"),
            ("key msk_a1B2_sEcReT-9_x refused", "key msk_a1B2_… refused"),
            ("msk_a_b msk_c_d", "msk_a_… msk_c_…"),
            ("msk_", "msk_"),
            ("Authorization: Bearer abc.def==", "Authorization: Bearer …"),
            ("authorization: bearer abc", "authorization: bearer …"),
            ("postgres://app:hunter2@db:5432/x", "postgres://app:…@db:5432/x"),
            ("redis://:p@ss:w@host/0", "redis://:…@host/0"),
            ("https://example.com/a:b@c", "https://example.com/a:b@c"),
            ("https://user@example.com", "https://user@example.com"),
            ("ünïcode msk_é_x", "ünïcode msk_é_x"),
        ] {
            assert_eq!(text(given), shown, "{given}");
        }
    }

    #[test]
    fn names_that_mean_a_secret_are_known() {
        for name in
            ["password", "db.Password", "client_secret", "http.request.header.authorization", "token", "csrf_token"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["tokens_left", "user", "key_id", "route"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
