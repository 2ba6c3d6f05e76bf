//! Dynamo's published vectors, and what must hold of any input.

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::*;

fn range(from: u32, to: u32) -> Vec<u32> {
    (from..=to).collect()
}

fn with_media(media: &[u64]) -> u64 {
    local_hash(&[100; 32], media, SEED, &mut Vec::new())
}

#[test]
fn the_hash_is_xxh3_with_dynamos_seed() {
    assert_eq!(xxh3_64_with_seed(b"test data", SEED), 13226331709069118873);
}

#[test]
fn local_hashes_match_dynamo() {
    let rows: &[(&[u32], usize, &[u64])] = &[
        (&range(0, 3), 4, &[9143094415614847814]),
        (&range(1, 12), 4, &[14643705804678351452, 16777012769546811212, 483935686894639516]),
        (&range(13, 16), 4, &[135165725823939817]),
        (&range(0, 34), 16, &[15310707395893867146, 15292316782987903195]),
        (&range(0, 63), 64, &[3480597578098033343]),
        (&[100; 32], 32, &[869096747401009017]),
        (&[u32::MAX; 4], 4, &[12410542959481710713]),
        (&[], 4, &[]),
        (&[1, 2], 4, &[]),
        (&[1, 2], usize::MAX, &[]),
    ];
    for (tokens, block_size, expected) in rows {
        assert_eq!(local_hashes(tokens, *block_size, SEED), *expected, "{tokens:?}");
    }
}

#[test]
fn sequence_hashes_match_dynamo() {
    let local = local_hashes(&range(1, 16), 4, SEED);
    assert_eq!(
        sequence_hashes(&local),
        [14643705804678351452, 4945711292740353085, 12583592247330656132, 1921452330601040443]
    );
    let longer = sequence_hashes(&local_hashes(&range(0, 34), 16, SEED));
    assert_eq!(longer, [15310707395893867146, 13769157705258532664]);
}

#[test]
fn adapter_and_salt_move_the_seed_as_in_dynamo() {
    let first = |seed| local_hashes(&range(0, 3), 4, seed);
    assert_eq!(first(seed(Some("adapter-a"), None)), [6665157333201000639]);
    assert_eq!(first(seed(None, Some("tenant-a"))), [17009624042690211646]);
    assert_eq!(first(seed(Some("adapter-a"), Some("tenant-a"))), [8269515957840517240]);
    assert_eq!(seed(Some(""), Some("")), SEED);
}

#[test]
fn media_hashes_are_appended_sorted() {
    assert_eq!(with_media(&[0xDEAD_BEEF]), 231838601075267525);
    assert_eq!(with_media(&[2, 1]), 8786311726019024594);
    assert_eq!(with_media(&[1, 2]), with_media(&[2, 1]));
    assert_eq!(with_media(&[]), 869096747401009017);
}

/// EAGLE hashes windows of one more token than the stride; no engine that we
/// follow asks for it, but the vector pins the hash over odd-sized blocks.
#[test]
fn a_window_longer_than_the_stride_matches_dynamos_eagle_vectors() {
    let windows = [range(0, 2), range(2, 4)];
    let hashes: Vec<u64> =
        windows.iter().map(|w| local_hash(w, &[], SEED, &mut Vec::new())).collect();
    assert_eq!(hashes, [11646242937812223497, 9948816348502404300]);
}

#[test]
fn media_identifiers_hash_by_their_first_digits_or_their_text() {
    let digits = format!("{:016x}{}", 0x0123_4567_89ab_cdef_u64, "0".repeat(48));
    assert_eq!(media_hash(&digits), Some(0x0123_4567_89ab_cdef));
    assert_eq!(media_hash("image-1"), Some(xxh3_64(b"image-1")));
    assert_eq!(media_hash(""), None);
}

#[test]
fn a_block_size_of_zero_has_no_blocks() {
    assert!(local_hashes(&range(0, 9), 0, SEED).is_empty());
}

proptest! {
    #[test]
    fn hashes_of_a_prefix_are_a_prefix_of_the_hashes(
        tokens in prop::collection::vec(any::<u32>(), 0..200),
        cut in 0usize..200,
        block_size in 1usize..40,
    ) {
        let cut = cut.min(tokens.len());
        let all = local_hashes(&tokens, block_size, SEED);
        let some = local_hashes(&tokens[..cut], block_size, SEED);
        prop_assert_eq!(all.len(), tokens.len() / block_size);
        prop_assert!(all.starts_with(&some));
        prop_assert!(sequence_hashes(&all).starts_with(&sequence_hashes(&some)));
    }
}
