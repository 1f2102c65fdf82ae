//! Which node looks after what: rendezvous hashing (Thaler and Ravishankar, 1998). Nodes that see the same nodes agree without
//! talking, and one that comes or goes moves only its own share.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// The node that looks after `parts`; `None` without nodes.
pub fn owner<'a>(nodes: impl IntoIterator<Item = &'a str>, parts: &[&str]) -> Option<&'a str> {
    let weight = |node: &str| {
        let mut hasher = SipHasher13::new_with_keys(0x6d61_696e, 0x7374_6179);
        for part in std::iter::once(&node).chain(parts) {
            hasher.write_usize(part.len());
            hasher.write(part.as_bytes());
        }
        hasher.finish()
    };
    nodes.into_iter().max_by_key(|node| (weight(node), *node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_goes_moves_only_its_own_share() {
        let (all, left) = (["a", "b", "c", "d"], ["a", "b", "c"]);
        let mut share = [0_u32; 4];
        for n in 0..4_000 {
            let key = n.to_string();
            let before = owner(all, &["p", &key]).unwrap();
            share[all.iter().position(|node| *node == before).unwrap()] += 1;
            if before != "d" {
                assert_eq!(owner(left, &["p", &key]), Some(before));
            }
        }
        assert!(share.iter().all(|n| (900..1_100).contains(n)), "{share:?}");
        assert_eq!(owner([], &["x"]), None);
    }
}
