//! The plugin's configuration: JSON in the Wasm filter's `configuration`.
//!
//! Read by hand from a JSON object instead of through serde's derive: serde
//! stops at the first error, and an operator who rolls a gateway wants all of
//! them at once.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::lifecycle::Detail;

/// How the chosen worker is named to Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `x-gateway-destination-endpoint`, read by the `override_host` balancer.
    OverrideHost,
    /// `x-warmpath-cluster`, read by a route's `cluster_header`.
    ClusterHeader,
}

/// What the operator chose; every field has a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Envoy's name of the indexer's cluster.
    pub indexer_cluster: String,
    /// How long a decision may take, counted from its dispatch.
    pub deadline: Duration,
    /// Bodies above this many bytes are not read.
    pub max_body_bytes: usize,
    /// How the worker is named to Envoy.
    pub destination: Destination,
    /// Whether clients may pin a worker, choose a policy, ask for scores.
    pub overrides: bool,
    /// Whether responses carry what was decided.
    pub report: bool,
    /// How often the manifest is asked for.
    pub manifest_refresh: Duration,
    /// Whether prompts that can not be tokenized here go to the indexer as text.
    pub text_fallback: bool,
    /// So many failed calls in a row stop the calling.
    pub breaker_failures: u32,
    /// For so long.
    pub breaker_open: Duration,
    /// What earlier prompts leave to later ones takes so many bytes in each VM; 0 is nothing.
    pub cache_bytes: usize,
    /// Prompts are hashed up to so many tokens; all of them where absent.
    pub max_prompt_tokens: Option<u64>,
    /// A prompt is worked on for so long before Envoy serves others.
    pub slice: Duration,
    /// How much the indexer is told of answers.
    pub lifecycle: Detail,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            indexer_cluster: "warmpath-indexer".to_owned(),
            deadline: Duration::from_millis(20),
            max_body_bytes: 8 << 20,
            destination: Destination::OverrideHost,
            overrides: false,
            report: false,
            manifest_refresh: Duration::from_secs(1),
            text_fallback: false,
            breaker_failures: 5,
            breaker_open: Duration::from_secs(1),
            cache_bytes: 4 << 20,
            max_prompt_tokens: None,
            slice: Duration::from_millis(2),
            lifecycle: Detail::Full,
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct ConfigError(pub Vec<String>);

const FIELDS: &[&str] = &[
    "indexer_cluster",
    "deadline_ms",
    "max_body_bytes",
    "destination",
    "overrides",
    "report",
    "manifest_refresh_ms",
    "text_fallback",
    "breaker_failures",
    "breaker_open_ms",
    "cache_bytes",
    "max_prompt_tokens",
    "slice_us",
    "lifecycle",
];

/// A VM has 1 GiB, of which a body takes up to thrice its size (text, prompt, tokens).
const MAX_BODY_BYTES: u64 = 256 << 20;
const MAX_CACHE_BYTES: u64 = 256 << 20;
const DAY_MS: u64 = 86_400_000;

impl Config {
    /// Reads the configuration; an empty one is all defaults.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let fields: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|error| ConfigError(vec![format!("not a JSON object: {error}")]))?;
        let mut reader = Reader { fields, errors: Vec::new() };
        let config = reader.config();
        reader.refuse_unknown();
        if reader.errors.is_empty() { Ok(config) } else { Err(ConfigError(reader.errors)) }
    }
}

struct Reader {
    fields: Map<String, Value>,
    errors: Vec<String>,
}

impl Reader {
    fn config(&mut self) -> Config {
        let defaults = Config::default();
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(0);
        let max_body_bytes =
            self.number("max_body_bytes", defaults.max_body_bytes as u64, 1, MAX_BODY_BYTES);
        let cache_bytes =
            self.number("cache_bytes", defaults.cache_bytes as u64, 0, MAX_CACHE_BYTES);
        let max_prompt_tokens = self.number("max_prompt_tokens", 0, 0, u64::MAX);
        let slice_us = u64::try_from(defaults.slice.as_micros()).unwrap_or(0);
        let breaker_failures = self.number(
            "breaker_failures",
            u64::from(defaults.breaker_failures),
            1,
            u64::from(u32::MAX),
        );
        Config {
            indexer_cluster: self.name("indexer_cluster", defaults.indexer_cluster),
            deadline: Duration::from_millis(self.number(
                "deadline_ms",
                milliseconds(defaults.deadline),
                1,
                60_000,
            )),
            max_body_bytes: usize::try_from(max_body_bytes).unwrap_or(defaults.max_body_bytes),
            destination: self.destination(defaults.destination),
            overrides: self.flag("overrides", defaults.overrides),
            report: self.flag("report", defaults.report),
            manifest_refresh: Duration::from_millis(self.number(
                "manifest_refresh_ms",
                milliseconds(defaults.manifest_refresh),
                50,
                DAY_MS,
            )),
            text_fallback: self.flag("text_fallback", defaults.text_fallback),
            breaker_failures: u32::try_from(breaker_failures).unwrap_or(u32::MAX),
            breaker_open: Duration::from_millis(self.number(
                "breaker_open_ms",
                milliseconds(defaults.breaker_open),
                1,
                DAY_MS,
            )),
            cache_bytes: usize::try_from(cache_bytes).unwrap_or(defaults.cache_bytes),
            max_prompt_tokens: (max_prompt_tokens > 0).then_some(max_prompt_tokens),
            slice: Duration::from_micros(self.number("slice_us", slice_us, 100, 1_000_000)),
            lifecycle: self.detail(defaults.lifecycle),
        }
    }

    fn name(&mut self, field: &str, default: String) -> String {
        match self.fields.get(field) {
            None => default,
            Some(Value::String(name)) if !name.is_empty() => name.clone(),
            Some(other) => {
                self.errors.push(format!("{field} must be a name, not {}", shown(other)));
                default
            }
        }
    }

    fn number(&mut self, field: &str, default: u64, least: u64, most: u64) -> u64 {
        let Some(value) = self.fields.get(field) else { return default };
        value.as_u64().filter(|number| (least..=most).contains(number)).unwrap_or_else(|| {
            self.errors.push(format!("{field} must be {least} to {most}, not {}", shown(value)));
            default
        })
    }

    fn flag(&mut self, field: &str, default: bool) -> bool {
        let Some(value) = self.fields.get(field) else { return default };
        value.as_bool().unwrap_or_else(|| {
            self.errors.push(format!("{field} must be true or false, not {}", shown(value)));
            default
        })
    }

    fn destination(&mut self, default: Destination) -> Destination {
        let Some(value) = self.fields.get("destination") else { return default };
        match value.as_str() {
            Some("override_host") => Destination::OverrideHost,
            Some("cluster_header") => Destination::ClusterHeader,
            _ => {
                self.errors.push(format!(
                    "destination must be \"override_host\" or \"cluster_header\", not {}",
                    shown(value)
                ));
                default
            }
        }
    }

    fn detail(&mut self, default: Detail) -> Detail {
        let Some(value) = self.fields.get("lifecycle") else { return default };
        match value.as_str() {
            Some("off") => Detail::Off,
            Some("coarse") => Detail::Coarse,
            Some("full") => Detail::Full,
            _ => {
                self.errors.push(format!(
                    "lifecycle must be \"off\", \"coarse\" or \"full\", not {}",
                    shown(value)
                ));
                default
            }
        }
    }

    fn refuse_unknown(&mut self) {
        for name in self.fields.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
            let nearest = FIELDS.iter().min_by_key(|field| strsim::levenshtein(field, name));
            self.errors.push(format!(
                "unknown field \"{name}\", did you mean \"{}\"?",
                nearest.unwrap_or(&"")
            ));
        }
    }
}

/// A value in an error. JSON's own writer is 15 KB of machine code.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_an_empty_object_are_the_defaults() {
        for text in ["", " \n", "{}"] {
            assert_eq!(Config::from_json(text.as_bytes()), Ok(Config::default()), "{text:?}");
        }
    }

    #[test]
    fn every_field_is_read() {
        let config = Config::from_json(
            br#"{"indexer_cluster":"i","deadline_ms":7,"max_body_bytes":9,
                "destination":"cluster_header","overrides":true,"report":true,
                "manifest_refresh_ms":60,"text_fallback":true,"breaker_failures":2,
                "breaker_open_ms":3,"cache_bytes":0,"max_prompt_tokens":5,"slice_us":700,
                "lifecycle":"coarse"}"#,
        );
        let expected = Config {
            indexer_cluster: "i".to_owned(),
            deadline: Duration::from_millis(7),
            max_body_bytes: 9,
            destination: Destination::ClusterHeader,
            overrides: true,
            report: true,
            manifest_refresh: Duration::from_millis(60),
            text_fallback: true,
            breaker_failures: 2,
            breaker_open: Duration::from_millis(3),
            cache_bytes: 0,
            max_prompt_tokens: Some(5),
            slice: Duration::from_micros(700),
            lifecycle: Detail::Coarse,
        };
        assert_eq!(config, Ok(expected));
    }

    #[test]
    fn all_errors_come_at_once() {
        let ConfigError(errors) = Config::from_json(
            br#"{"deadline":5,"deadline_ms":0,"report":"yes","destination":"x","indexer_cluster":"",
                "lifecycle":"all"}"#,
        )
        .unwrap_err();
        assert_eq!(errors.len(), 6, "{errors:?}");
        for part in ["1 to 60000, not 0", "not \"yes\"", "not \"x\"", "a name, not \"\""] {
            assert!(errors.iter().any(|error| error.contains(part)), "{part} in {errors:?}");
        }
    }

    #[test]
    fn an_unknown_field_names_the_nearest_known_one() {
        let error = Config::from_json(br#"{"max_body_byte":5}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown field \"max_body_byte\", did you mean \"max_body_bytes\"?"
        );
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for text in ["[]", "{", "\"x\"", "\u{1}"] {
            assert!(Config::from_json(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
