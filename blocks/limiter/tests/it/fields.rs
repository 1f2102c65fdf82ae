//! Structured fields (RFC 9651): the published vectors, as they are. What we send is made by the same serialiser.

use std::path::Path;

use serde_json::Value;
use sfv::{BareItem, Dictionary, FieldType, InnerList, Item, List, ListEntry, Parameters, Parser};

/// Beside the repository in CI and at work; a plain clone has none, and says so on standard error.
#[test]
fn published_vectors() {
    let Some(folder) = testkit::vectors("structured-fields") else {
        assert!(std::env::var_os("CI").is_none(), "CI has the vectors beside the repository: ../shared/conformance");
        return;
    };
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        count += file(&entry.unwrap().path());
    }
    assert!(count >= 100, "only {count} vectors in {}", folder.display());
}

fn file(path: &Path) -> usize {
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let vectors = vectors.as_array().unwrap();
    for vector in vectors {
        let at = format!("{} {}", path.display(), vector["name"]);
        match vector["header_type"].as_str().unwrap() {
            "item" => check::<Item>(vector, &at, item_as_json, |item| Some(item.serialize())),
            "list" => check::<List>(vector, &at, |list| entries(list.iter()), List::serialize),
            "dictionary" => check::<Dictionary>(vector, &at, dictionary_as_json, Dictionary::serialize),
            other => panic!("{at}: {other}"),
        }
    }
    vectors.len()
}

fn check<T: FieldType>(vector: &Value, at: &str, json: impl Fn(&T) -> Value, text: impl Fn(&T) -> Option<String>) {
    let lines = |name: &str| -> Option<Vec<&str>> {
        Some(vector[name].as_array()?.iter().map(|line| line.as_str().unwrap()).collect())
    };
    let raw = lines("raw").unwrap().join(", ");
    let parsed = Parser::new(&raw).parse::<T>();
    if vector["must_fail"] == true {
        assert!(parsed.is_err(), "{at}: {raw:?} was read");
        return;
    }
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(_) if vector["can_fail"] == true => return,
        Err(e) => panic!("{at}: {raw:?}: {e}"),
    };
    assert!(is_same(&json(&parsed), &vector["expected"]), "{at}: read {} from {raw:?}", json(&parsed));
    // Without a canonical form the raw one is canonical; one without a line stands for a field that is not sent.
    let canonical = lines("canonical").or_else(|| lines("raw")).unwrap();
    assert_eq!(text(&parsed).as_deref(), canonical.first().copied(), "{at}");
}

/// Equal, where 1 and 1.0 are.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn entries<'a>(list: impl Iterator<Item = &'a ListEntry>) -> Value {
    list.map(|entry| match entry {
        ListEntry::Item(item) => item_as_json(item),
        ListEntry::InnerList(inner) => inner_as_json(inner),
    })
    .collect()
}

fn dictionary_as_json(dictionary: &Dictionary) -> Value {
    let names = dictionary.keys().map(|key| Value::from(key.as_str()));
    let values = entries(dictionary.values());
    names.zip(values.as_array().unwrap().clone()).map(|(name, value)| Value::from(vec![name, value])).collect()
}

fn inner_as_json(inner: &InnerList) -> Value {
    Value::from(vec![inner.items.iter().map(item_as_json).collect(), parameters(&inner.params)])
}

fn item_as_json(item: &Item) -> Value {
    Value::from(vec![bare(&item.bare_item), parameters(&item.params)])
}

fn parameters(parameters: &Parameters) -> Value {
    parameters.iter().map(|(key, value)| Value::from(vec![Value::from(key.as_str()), bare(value)])).collect()
}

fn bare(item: &BareItem) -> Value {
    match item {
        BareItem::Integer(n) => i64::from(*n).into(),
        BareItem::Decimal(n) => f64::from(*n).into(),
        BareItem::String(text) => text.as_str().into(),
        BareItem::Token(token) => serde_json::json!({ "__type": "token", "value": token.as_str() }),
        BareItem::Boolean(is) => (*is).into(),
        BareItem::ByteSequence(bytes) => serde_json::json!({ "__type": "binary", "value": base32(bytes) }),
        other => panic!("no vector here has {other:?}"),
    }
}

/// How the vectors write bytes (RFC 4648).
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::new();
    for chunk in bytes.chunks(5) {
        let mut block = [0; 8];
        block[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(block);
        let letters = (chunk.len() * 8).div_ceil(5);
        for i in 0..8 {
            let letter = ALPHABET[usize::try_from(bits >> (35 - 5 * i) & 31).unwrap()];
            text.push(if i < letters { char::from(letter) } else { '=' });
        }
    }
    text
}
