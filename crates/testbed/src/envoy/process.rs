//! Envoy as a child process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Config;
use crate::measure::prometheus;
use crate::process::Process;

/// Loading the module compiles it whole; on a busy machine that takes seconds.
const START_LIMIT: Duration = Duration::from_secs(90);

/// A running Envoy.
pub struct Envoy {
    process: Process,
    /// Where clients connect.
    pub http: SocketAddr,
    /// The admin interface.
    pub admin: SocketAddr,
    /// From starting the process to listening.
    pub started_in: Duration,
    access_log: PathBuf,
    client: reqwest::Client,
}

impl Envoy {
    /// Starts Envoy with its files in `folder` and waits until it listens.
    ///
    /// `concurrency` is the number of Envoy's worker threads.
    pub async fn start(mut config: Config, folder: &Path, concurrency: u32) -> Result<Self> {
        let binary = super::locate()?;
        let access_log = folder.join("access.log");
        if config.has_access_log()? {
            config.access_log(&access_log)?;
        }
        let file = folder.join("envoy.json");
        std::fs::write(&file, config.value().to_string())
            .with_context(|| format!("can not write {}", file.display()))?;
        let address_file = folder.join("admin-address");
        let mut command = Command::new(binary);
        command.arg("-c").arg(&file).arg("--admin-address-path").arg(&address_file);
        command.args(["--disable-hot-restart", "--log-level", "warning"]);
        command.args(["--component-log-level", "wasm:info", "--file-flush-interval-msec", "100"]);
        command.args(["--concurrency", &concurrency.to_string()]);
        let start = Instant::now();
        let mut process = Process::start("envoy", &mut command, &folder.join("envoy.log"))?;
        let client = reqwest::Client::new();
        let admin = {
            let read = || std::fs::read_to_string(&address_file).ok().and_then(|a| a.parse().ok());
            process.wait_ready(START_LIMIT, async || read().is_some()).await?;
            read().context("envoy wrote no admin address")?
        };
        let ready =
            async || get(&client, admin, "/ready").await.is_ok_and(|text| text.contains("LIVE"));
        process.wait_ready(START_LIMIT, ready).await?;
        let started_in = start.elapsed();
        let listeners: Value =
            serde_json::from_str(&get(&client, admin, "/listeners?format=json").await?)?;
        let address = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
        let (Some(ip), Some(port)) = (address["address"].as_str(), address["port_value"].as_u64())
        else {
            bail!("envoy listens nowhere: {listeners}");
        };
        let http = SocketAddr::new(ip.parse()?, u16::try_from(port)?);
        Ok(Self { process, http, admin, started_in, access_log, client })
    }

    /// `http://address` for clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.process.log()).unwrap_or_default()
    }

    /// The access log, one value a line; lines appear within 100 ms or so.
    pub fn access_log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.access_log).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Its statistics in Prometheus's form: name with labels → value.
    pub async fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        let text = get(&self.client, self.admin, "/stats/prometheus").await?;
        Ok(prometheus(&text).map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Waits until the access log has `lines` lines; returns them.
    pub async fn wait_access_log(&self, lines: usize) -> Result<Vec<Value>> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let log = self.access_log();
            if log.len() >= lines {
                return Ok(log);
            }
            if Instant::now() >= end {
                bail!("the access log has {} lines, not {lines}", log.len());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Asks Envoy whether it accepts a configuration; its complaint otherwise.
pub fn validate(config: &Config, folder: &Path) -> Result<()> {
    let file = folder.join("validate.json");
    std::fs::write(&file, config.value().to_string())
        .with_context(|| format!("can not write {}", file.display()))?;
    let mut command = Command::new(super::locate()?);
    command.args(["--mode", "validate", "--disable-hot-restart", "-c"]).arg(&file);
    let output = command.output().context("can not run envoy")?;
    if !output.status.success() {
        bail!("envoy refuses it: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

async fn get(client: &reqwest::Client, address: SocketAddr, path: &str) -> Result<String> {
    let answer = client.get(format!("http://{address}{path}")).send().await?;
    Ok(answer.error_for_status()?.text().await?)
}
