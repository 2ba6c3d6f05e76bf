//! Messages between filter and indexer: whatever is read is written and read again
//! alike, in both encodings.
//!
//! Input: which message and which encoding; then the message.

use serde::Serialize;
use serde::de::DeserializeOwned;
use warmpath_protocol::{Decision, LifecycleAnswer, LifecycleReport, Manifest, RouteRequest};

use crate::bytes::Bytes;

pub(crate) fn check(data: &[u8]) {
    let mut bytes = Bytes(data);
    let kind = bytes.byte();
    match kind % 5 {
        0 => both::<RouteRequest>(kind, bytes.0),
        1 => both::<Decision>(kind, bytes.0),
        2 => both::<Vec<LifecycleReport>>(kind, bytes.0),
        3 => both::<LifecycleAnswer>(kind, bytes.0),
        _ => both::<Manifest>(kind, bytes.0),
    }
}

fn both<T: Serialize + DeserializeOwned>(kind: u8, data: &[u8]) {
    let read: Option<T> = if kind >= 128 {
        rmp_serde::from_slice(data).ok()
    } else {
        serde_json::from_slice(data).ok()
    };
    let Some(read) = read else { return };
    let packed = rmp_serde::to_vec_named(&read).expect("it is written");
    let unpacked: T = rmp_serde::from_slice(&packed).expect("it is read again");
    // Bytes are compared: not a number is no equal of itself.
    assert_eq!(packed, rmp_serde::to_vec_named(&unpacked).expect("it is written"));
    let text = serde_json::to_string(&read).expect("it is written");
    // JSON has no infinities and writes null for them, which is no number.
    if let Ok(again) = serde_json::from_str::<T>(&text) {
        assert_eq!(text, serde_json::to_string(&again).expect("it is written"));
    }
}
