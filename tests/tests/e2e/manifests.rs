//! The Istio and Envoy Gateway manifests: what they would hand to Envoy is put
//! into a bootstrap and given to the real one.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use warmpath_testbed::build;
use warmpath_testbed::envoy::{Config, read_yaml, validate};

/// The bootstrap, to be changed as a control plane would change its own.
fn bootstrap() -> Result<Value> {
    let mut config = Config::read("envoy/bootstrap.yaml")?;
    config.module(&build::filter_wasm(build::Module::Simd)?)?;
    Ok(config.value().clone())
}

fn accepted(tree: Value) -> Result<()> {
    let folder = TempDir::new()?;
    validate(&Config::from_value(tree), folder.path())
}

const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";

fn at<'tree>(tree: &'tree mut Value, path: &str) -> Result<&'tree mut Value> {
    tree.pointer_mut(path).with_context(|| format!("no {path}"))
}

/// Protobuf's merge, as EnvoyFilter's MERGE does it.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (into, from) => *into = from.clone(),
    }
}

fn patch<'tree>(manifest: &'tree Value, target: &str, operation: &str) -> Result<&'tree Value> {
    let patches = manifest["spec"]["configPatches"].as_array().context("no configPatches")?;
    let found = patches
        .iter()
        .find(|patch| patch["applyTo"] == target && patch["patch"]["operation"] == operation);
    Ok(&found.with_context(|| format!("no {operation} of {target}"))?["patch"]["value"])
}

#[test]
fn envoy_accepts_what_istio_would_send() -> Result<()> {
    let manifest = read_yaml("envoy/istio-envoyfilter.yaml".as_ref())?;
    let mut tree = bootstrap()?;
    let filters = at(&mut tree, &format!("{MANAGER}/http_filters"))?;
    let mut filter = patch(&manifest, "EXTENSION_CONFIG", "ADD")?.clone();
    // Istio's agent fetches the image and puts the file's name in its place.
    let vm = at(&mut filter, "/typed_config/config/vm_config")?;
    vm["code"] = json!({"local": {"filename": build::filter_wasm(build::Module::Simd)?}});
    filters[0] = filter;

    let discovered = patch(&manifest, "HTTP_FILTER", "INSERT_BEFORE")?;
    assert_eq!(discovered["name"], filters[0]["name"], "the discovered name is another");
    let manager = at(&mut tree, MANAGER)?;
    manager.as_object_mut().context("no manager")?.remove("early_header_mutation_extensions");
    let network = patch(&manifest, "NETWORK_FILTER", "MERGE")?;
    merge(manager, &network["typed_config"]);
    let listener = at(&mut tree, "/static_resources/listeners/0")?;
    merge(listener, patch(&manifest, "LISTENER", "MERGE")?);

    let clusters = at(&mut tree, "/static_resources/clusters")?;
    // Istio's cluster for a Service, before the patch.
    let mut workers = clusters[0].clone();
    let fields = workers.as_object_mut().context("no cluster")?;
    fields.remove("load_balancing_policy");
    fields.insert("lb_policy".to_owned(), json!("LEAST_REQUEST"));
    merge(&mut workers, patch(&manifest, "CLUSTER", "MERGE")?);
    *clusters = json!([workers, patch(&manifest, "CLUSTER", "ADD")?]);
    accepted(tree)
}

#[test]
fn the_istio_manifest_sets_what_the_bootstrap_sets() -> Result<()> {
    let manifest = read_yaml("envoy/istio-envoyfilter.yaml".as_ref())?;
    let filter = &patch(&manifest, "EXTENSION_CONFIG", "ADD")?["typed_config"]["config"];
    let mut tree = bootstrap()?;
    let own = at(&mut tree, &format!("{MANAGER}/http_filters/0/typed_config/config"))?;
    for field in ["allow_on_headers_stop_iteration", "failure_policy", "root_id", "name"] {
        assert_eq!(filter[field], own[field], "{field}");
    }
    let mutations = "/typed_config/early_header_mutation_extensions/0/typed_config/mutations";
    let network = patch(&manifest, "NETWORK_FILTER", "MERGE")?;
    let own = tree.pointer(&format!("{MANAGER}{}", &mutations["/typed_config".len()..]));
    assert_eq!(network.pointer(mutations), own);
    Ok(())
}

/// The documents of envoy/gateway-policies.yaml by kind.
fn policies() -> Result<Vec<Value>> {
    let path = build::workspace_root().join("envoy/gateway-policies.yaml");
    let text = std::fs::read_to_string(path)?;
    serde_saphyr::from_multiple(&text).context("not YAML")
}

fn policy(kind: &str) -> Result<Value> {
    let found = policies()?.into_iter().find(|document| document["kind"] == kind);
    found.with_context(|| format!("no {kind}"))
}

#[test]
fn envoy_accepts_what_envoy_gateway_would_send() -> Result<()> {
    let mut tree = bootstrap()?;
    let wasm = policy("EnvoyExtensionPolicy")?["spec"]["wasm"][0].clone();
    let patches = policy("EnvoyPatchPolicy")?["spec"]["jsonPatches"].clone();
    let flag = &patches[0]["operation"];
    let filter = at(&mut tree, &format!("{MANAGER}/http_filters/0/typed_config/config"))?;
    *at(filter, "/configuration/value")? = json!(wasm["config"].to_string());
    let fields = filter.as_object_mut().context("no filter")?;
    fields.remove("allow_on_headers_stop_iteration");
    let name = flag["path"].as_str().context("no path")?.trim_start_matches('/');
    fields.insert(name.to_owned(), flag["value"].clone());
    assert_eq!(fields["allow_on_headers_stop_iteration"], true);

    let cluster = &patches[1]["operation"]["value"];
    let clusters = at(&mut tree, "/static_resources/clusters")?;
    *clusters = json!([clusters[0], cluster]);
    accepted(tree)
}

#[test]
fn the_envoy_gateway_manifests_name_each_other() -> Result<()> {
    let extension = policy("EnvoyExtensionPolicy")?;
    let (namespace, name) = (&extension["metadata"]["namespace"], &extension["metadata"]["name"]);
    let (namespace, name) = (namespace.as_str().unwrap(), name.as_str().unwrap());
    let patches = policy("EnvoyPatchPolicy")?;
    let select = patches["spec"]["jsonPatches"][0]["operation"]["jsonPath"].as_str().unwrap();
    let generated = format!("envoyextensionpolicy/{namespace}/{name}/wasm/0");
    assert!(select.contains(&generated), "{select}");
    let backend = policy("BackendTrafficPolicy")?;
    let header = &backend["spec"]["loadBalancer"]["endpointOverride"]["extractFrom"][0]["header"];
    assert_eq!(header, "x-gateway-destination-endpoint");
    let client = policy("ClientTrafficPolicy")?;
    let removed = client["spec"]["headers"]["earlyRequestHeaders"]["remove"].as_array().unwrap();
    assert!(removed.contains(header), "{removed:?}");
    let limit = &client["spec"]["connection"]["bufferLimit"];
    assert_eq!(limit, "16Mi");
    Ok(())
}
