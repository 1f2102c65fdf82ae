//! What a pick gives.

use std::time::Duration;

use upstream::{NoEndpoint, Outcome, Pick};

use crate::world::{World, count, endpoints, id, number, one, spec};

#[test]
fn one_after_another() {
    let world = World::new();
    let shop = world.apply(&endpoints([(1, ""), (2, ""), (3, "")]));
    let seen: Vec<_> = (0..6).map(|_| one(&shop, &Pick::default())).collect();
    assert_eq!(seen, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn weights_and_none() {
    let world = World::new();
    let shop = world.apply(&format!(
        "{}balance = {{ algorithm = \"weighted_round_robin\" }}",
        endpoints([(1, ", weight = 5"), (2, ", weight = 1"), (3, ", weight = 0")])
    ));
    assert_eq!(count(&shop, 600), [(1, 500), (2, 100)].into());
    let empty = world.apply("endpoints = []");
    assert_eq!(empty.pick(&Pick::default()).unwrap_err(), NoEndpoint::Empty);
}

#[test]
fn leases_are_counted_and_bounded() {
    let world = World::new();
    let shop = world.apply(&format!("{}limits = {{ max_in_flight = 3 }}", endpoints([(1, ""), (2, "")])));
    let held: Vec<_> = (0..3).map(|_| shop.pick(&Pick::default()).unwrap()).collect();
    assert_eq!(shop.pick(&Pick::default()).unwrap_err(), NoEndpoint::Full);
    assert_eq!(world.upstreams.states()[0].in_flight, 3);
    drop(held);
    assert_eq!(world.upstreams.states()[0].in_flight, 0);
    assert!(shop.pick(&Pick::default()).is_ok());
}

#[test]
fn the_tried_one_is_left_out_and_the_sticky_one_kept() {
    let world = World::new();
    let shop = world.apply(&endpoints([(1, ""), (2, "")]));
    for _ in 0..10 {
        assert_eq!(one(&shop, &Pick { exclude: &[id(1)], ..Pick::default() }), 2);
        assert_eq!(one(&shop, &Pick { sticky: Some(id(1)), ..Pick::default() }), 1);
    }
    // With everyone tried, one is tried again.
    assert!(shop.pick(&Pick { exclude: &[id(1), id(2)], ..Pick::default() }).is_ok());
    // Who is not there is not kept.
    assert!(shop.pick(&Pick { sticky: Some(id(9)), ..Pick::default() }).is_ok());
}

#[test]
fn failures_in_a_row_eject_and_time_brings_back() {
    let world = World::new();
    let shop = world.apply(&format!("{}outlier = {{ consecutive_failures = 3 }}", endpoints([(1, ""), (2, "")])));
    let fail = |n: u8| loop {
        let lease = shop.pick(&Pick::default()).unwrap();
        let is_it = number(&lease) == n;
        lease.report(Outcome { is_success: !is_it, took: Duration::from_millis(1) });
        if is_it {
            break;
        }
    };
    (0..3).for_each(|_| fail(1));
    assert_eq!(count(&shop, 10), [(2, 10)].into());
    world.time.advance(Duration::from_secs(30));
    assert_eq!(count(&shop, 10), [(1, 5), (2, 5)].into());
}

#[test]
fn a_changed_document_changes_what_it_changes() {
    let world = World::new();
    let shop = world.apply(&endpoints([(1, ""), (2, "")]));
    let lease = shop.pick(&Pick { sticky: Some(id(2)), ..Pick::default() }).unwrap();
    let target = lease.target().clone();
    let mut retired = world.upstreams.retired();
    world.apply(&endpoints([(2, ""), (3, "")]));
    assert_eq!(count(&shop, 10).into_keys().collect::<Vec<_>>(), [2, 3]);
    let again = shop.pick(&Pick { sticky: Some(id(2)), ..Pick::default() }).unwrap();
    assert_eq!(again.target().id, target.id, "who stays keeps its connections");
    assert!(retired.try_recv().is_ok(), "who left does not");
    assert!(retired.try_recv().is_err());
    // A document with a mistake changes nothing.
    let faults = world.upstreams.apply(&[spec(&endpoints([(9, "")])), spec("")]).unwrap_err();
    let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["/upstreams/1/endpoints", "/upstreams/1/name"]);
    assert_eq!(count(&shop, 10).into_keys().collect::<Vec<_>>(), [2, 3]);
}
