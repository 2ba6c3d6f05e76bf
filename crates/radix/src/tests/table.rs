//! The table of engine hashes against a general hash map.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::EngineHash;
use crate::table::Table;

#[derive(Debug, Clone)]
enum Operation {
    Insert(u64, u32),
    Remove(u64),
    /// Many at once, so that the table grows and shrinks.
    InsertUpTo(u64),
    RemoveFrom(u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        20 => (0u64..600, 0u32..9).prop_map(|(key, place)| Operation::Insert(key, place)),
        20 => (0u64..600).prop_map(Operation::Remove),
        1 => (0u64..600).prop_map(Operation::InsertUpTo),
        1 => (0u64..600).prop_map(Operation::RemoveFrom),
    ]
}

fn insert(table: &mut Table, key: u64, place: u32) -> Option<u32> {
    table.reserve(1);
    let home = table.homes(std::iter::once(EngineHash(key)))[0];
    table.insert(home, EngineHash(key), place)
}

fn remove(table: &mut Table, key: u64) -> Option<u32> {
    let home = table.homes(std::iter::once(EngineHash(key)))[0];
    let place = table.remove(home, EngineHash(key));
    table.settle(|_| true);
    place
}

proptest! {
    #[test]
    fn a_table_has_what_a_map_has(history in prop::collection::vec(operation(), 1..120)) {
        let (mut table, mut map) = (Table::default(), HashMap::new());
        for operation in history {
            match operation {
                Operation::Insert(key, place) => {
                    prop_assert_eq!(insert(&mut table, key, place), map.insert(key, place));
                }
                Operation::Remove(key) => prop_assert_eq!(remove(&mut table, key), map.remove(&key)),
                Operation::InsertUpTo(end) => {
                    for key in 0..end {
                        prop_assert_eq!(insert(&mut table, key, 7), map.insert(key, 7));
                    }
                }
                Operation::RemoveFrom(start) => {
                    for key in start..600 {
                        prop_assert_eq!(remove(&mut table, key), map.remove(&key));
                    }
                }
            }
            prop_assert_eq!(table.len(), map.len());
            prop_assert_eq!(table.iter().map(|(key, place)| (key.0, place)).collect::<HashMap<_, _>>(), map.clone());
            for key in 0..600 {
                prop_assert_eq!(table.get(EngineHash(key)), map.get(&key).copied());
            }
            prop_assert!(table.audit());
        }
    }
}
