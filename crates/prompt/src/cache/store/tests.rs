use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn words(key: u64, length: usize) -> Vec<u32> {
    vec![key as u32; length]
}

proptest! {
    #[test]
    fn entries_are_found_unchanged_or_not_at_all_and_the_budget_holds(
        budget in 0usize..60_000,
        steps in prop::collection::vec((any::<bool>(), 0u64..80, 0usize..300), 0..400),
    ) {
        let mut store = Store::new(budget);
        let mut known: HashMap<u64, Vec<u32>> = HashMap::new();
        for (put, key, length) in steps {
            if put {
                let words = words(key, length);
                store.put((key, !key), &words);
                if let Some(found) = store.get((key, !key)) {
                    let known = known.entry(key).or_insert_with(|| found.to_vec());
                    prop_assert!(found == *known || found == words);
                    *known = found.to_vec();
                }
            } else if let Some(found) = store.get((key, !key)) {
                prop_assert_eq!(Some(found), known.get(&key).map(Vec::as_slice));
            }
            prop_assert!(store.bytes() <= budget);
            let lists: usize = [store.probation, store.protected]
                .iter()
                .map(|ends| {
                    let mut count = 0;
                    let mut bytes = 0;
                    let mut at = ends.newest;
                    while let Some(slot) = store.slots.get(at as usize) {
                        (count, bytes) = (count + 1, bytes + cost(&slot.words));
                        at = slot.older;
                    }
                    assert_eq!(bytes, ends.bytes);
                    count
                })
                .sum();
            prop_assert_eq!(lists, store.entries);
        }
    }
}

#[test]
fn what_was_used_again_outlives_what_comes_once() {
    let mut store = Store::new(100_000);
    store.put((1, 1), &words(1, 100));
    assert!(store.get((1, 1)).is_some());
    for key in 2..10_000 {
        store.put((key, key), &words(key, 100));
    }
    assert!(store.evicted > 9_000);
    assert!(store.get((1, 1)).is_some());
    assert!(store.get((2, 2)).is_none());
    assert!(store.get((9_999, 9_999)).is_some());
}

#[test]
fn what_was_once_used_and_no_more_goes_in_the_end() {
    let mut store = Store::new(100_000);
    for key in 0..10_000 {
        store.put((key, key), &words(key, 100));
        assert!(store.get((key, key)).is_some());
    }
    assert!(store.get((0, 0)).is_none());
}

#[test]
fn a_large_entry_does_not_empty_it() {
    let mut store = Store::new(100_000);
    store.put((1, 1), &words(1, 10));
    store.put((2, 2), &words(2, 20_000));
    assert!(store.get((2, 2)).is_none());
    assert!(store.get((1, 1)).is_some());
    assert_eq!(store.evicted, 0);
}
