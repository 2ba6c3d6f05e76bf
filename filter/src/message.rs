//! What the indexer sends, read: MessagePack or JSON.
//!
//! Both become a tree of values first, and the message is read from that: some
//! microseconds for each, but one reader for each message in the module instead of
//! two, and a small one.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why a message can not be read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is not JSON, or not the message that was expected.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It is not MessagePack.
    #[error("{0}")]
    MessagePack(#[from] rmp_serde::decode::Error),
}

/// Reads a message: no map in MessagePack begins with a brace.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    let value: Value = match bytes.first() {
        Some(b'{') => serde_json::from_slice(bytes)?,
        _ => rmp_serde::from_slice(bytes)?,
    };
    Ok(serde_json::from_value(value)?)
}
