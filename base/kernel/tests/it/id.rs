use std::{collections::BTreeSet, time::Duration};

use kernel::{Clock, ProjectId, Rng, Timestamp};
use proptest::prelude::*;

kernel::typed_id!(
    /// An id of the tests.
    LinkId,
    "lnk"
);
kernel::typed_id!(
    /// Another.
    JobId,
    "job"
);

#[test]
fn ids_sort_by_the_millisecond_they_were_made_in() {
    let (clock, sim) = Clock::simulated(Timestamp::parse("2026-11-24T06:00:00Z").unwrap());
    let rng = Rng::seeded(1);
    let ids: Vec<LinkId> = (0..1_000)
        .map(|_| {
            sim.advance(Duration::from_millis(1));
            LinkId::new(&clock, &rng)
        })
        .collect();
    assert!(ids.is_sorted());
    let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    assert!(texts.is_sorted(), "the text sorts the same way");
    assert!(ids.iter().map(LinkId::as_bytes).is_sorted(), "and so do the bytes");
}

#[test]
fn ids_of_one_millisecond_differ() {
    let (clock, _sim) = Clock::simulated(Timestamp::EPOCH);
    let rng = Rng::seeded(1);
    let ids: BTreeSet<_> = (0..10_000).map(|_| LinkId::new(&clock, &rng)).collect();
    assert_eq!(ids.len(), 10_000);
}

#[test]
fn an_id_is_a_uuid_version_7() {
    let (clock, _sim) = Clock::simulated(Timestamp::from_millis(0x0123_4567_89ab));
    let id = LinkId::new(&clock, &Rng::seeded(1));
    let bytes = id.as_bytes();
    assert_eq!(bytes[..6], [0x01, 0x23, 0x45, 0x67, 0x89, 0xab], "milliseconds first");
    assert_eq!(bytes[6] >> 4, 7, "version");
    assert_eq!(bytes[8] >> 6, 0b10, "variant");
}

#[test]
fn only_its_own_text_form_is_read() {
    let text = "lnk_0193585a7b8c7d3e9f00112233445566";
    let id = LinkId::parse(text).unwrap();
    assert_eq!(id.to_string(), text);
    assert_eq!(format!("{id:?}"), text);
    assert_eq!(serde_json::to_string(&id).unwrap(), format!("{text:?}"));
    assert_eq!(serde_json::from_str::<LinkId>(&format!("{text:?}")).unwrap(), id);
    assert_eq!(JobId::parse(text), None, "another type's id");
    let wrong = serde_json::from_str::<JobId>(&format!("{text:?}")).unwrap_err().to_string();
    assert!(wrong.contains("job_"), "{wrong}");
    for bad in [
        "",
        "lnk_",
        "0193585a7b8c7d3e9f00112233445566",
        "lnk_0193585a7b8c7d3e9f0011223344556",
        "lnk_0193585a7b8c7d3e9f001122334455667",
        "lnk_0193585A7B8C7D3E9F00112233445566",
        "lnk_0193585a-7b8c-7d3e-9f00-112233445566",
        "lnk_g193585a7b8c7d3e9f00112233445566",
        "lnk_lnk_0193585a7b8c7d3e9f0011223344",
    ] {
        assert_eq!(LinkId::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_project_has_a_short_plain_name() {
    for good in ["a", "default", "shop-2", "a-", &"a".repeat(40)] {
        let id = ProjectId::parse(good).unwrap();
        assert_eq!((id.as_str(), id.to_string().as_str()), (good, good));
        assert_eq!(serde_json::from_str::<ProjectId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
    }
    for bad in ["", "A", "1a", "-a", "_other", "a b", "a/b", "a.b", "é", "a\0", &"a".repeat(41)] {
        assert_eq!(ProjectId::parse(bad), None, "{bad}");
        assert!(serde_json::from_value::<ProjectId>(bad.into()).is_err());
    }
    assert_eq!(ProjectId::default_project().as_str(), ProjectId::DEFAULT);
    assert_eq!(ProjectId::parse(ProjectId::DEFAULT), Some(ProjectId::default_project()));
}

proptest! {
    #[test]
    fn text_and_bytes_round_trip(bytes in any::<[u8; 16]>()) {
        let id = LinkId::from_bytes(bytes);
        prop_assert_eq!(LinkId::parse(&id.to_string()), Some(id));
        prop_assert_eq!(*id.as_bytes(), bytes);
    }

    #[test]
    fn no_text_panics(text in "\\PC*") {
        LinkId::parse(&text);
        LinkId::parse(&format!("lnk_{text}"));
        ProjectId::parse(&text);
    }
}
