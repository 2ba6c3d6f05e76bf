//! OpenAI bodies to the token ids that the engine hashes.

mod folder;
mod model;
mod refusal;
mod request;
mod spec;
#[cfg(feature = "library")]
mod library;
#[cfg(feature = "table")]
mod table;

#[cfg(feature = "library")]
pub use folder::{LoadError, ModelFolder};
#[cfg(feature = "library")]
pub use library::LibraryEncoder;
pub use model::{Encode, Model, ModelError, Prompts};
pub use refusal::Refusal;
pub use request::{Endpoint, Request, parse};
pub use spec::{ModelSpec, SPEC_FORMAT};
#[cfg(feature = "table")]
pub use table::{TABLE_FORMAT, TableEncoder, TableError};
