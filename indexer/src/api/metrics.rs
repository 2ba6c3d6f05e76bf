//! What was asked and refused, counted.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::ApiError;

/// Counters of the API.
///
/// Labels are the codes and reasons of our own code, and names of configured
/// models: nothing that a client wrote.
#[derive(Debug, Default)]
pub struct ApiMetrics {
    errors: Family<[(&'static str, &'static str); 1], Counter>,
    not_exact: Family<[(&'static str, &'static str); 1], Counter>,
    tokenized: Family<[(&'static str, String); 1], Counter>,
}

impl ApiMetrics {
    /// Shows the counters on `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "route_errors",
            "Route requests without a decision, by the error's code",
            self.errors.clone(),
        );
        registry.register(
            "not_exact",
            "Texts that could not be tokenized exactly, by reason",
            self.not_exact.clone(),
        );
        registry.register(
            "tokenized_texts",
            "Bodies that were tokenized here, by model",
            self.tokenized.clone(),
        );
    }

    pub(super) fn refused(&self, error: &ApiError) {
        self.errors.get_or_create(&[("code", error.code())]).inc();
    }

    pub(super) fn not_exact(&self, reason: &'static str) {
        self.not_exact.get_or_create(&[("reason", reason)]).inc();
    }

    pub(super) fn tokenized(&self, model: &str) {
        self.tokenized.get_or_create(&[("model", model.to_owned())]).inc();
    }
}
