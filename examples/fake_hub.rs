//! The fake hub as a program, for scripts and for trying things by hand.
//!
//! `cargo run --example fake_hub -- --repo org/name --folder DIR` serves a folder as a repository until it is killed.
//! Its first line on stdout is `HF_ENDPOINT=…`. With the word `requests` on its stdin it prints what was asked so far.

#[path = "../tests/support/fake_hub/mod.rs"]
mod fake_hub;

use bytesize::ByteSize;
use clap::Parser;
use fake_hub::{Access, Content, FakeHub, Fault, Rule};
use std::io::{self, BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The name of the generated file.
const SYNTHETIC: &str = "synthetic.safetensors";

#[derive(Parser)]
#[command(about = "A Hugging Face hub on this machine, with its CDN on another port.")]
struct Arguments {
    /// Name of the repository
    #[arg(long, value_name = "ORG/NAME", default_value = "org/name")]
    repo: String,
    /// Folder whose files the repository holds
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Add one generated file of this size (`1GiB`, `500MB`), named synthetic.safetensors
    #[arg(long, value_name = "SIZE")]
    synthetic: Option<ByteSize>,
    /// Files of this size and more come from the CDN
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10)]
    lfs_from: u64,
    /// Every answer starts this much later
    #[arg(long, value_name = "N")]
    latency_ms: Option<u64>,
    /// Most bytes per second for each connection (`20MB`)
    #[arg(long, value_name = "SIZE")]
    rate: Option<ByteSize>,
    /// Gate the repository: only this token may read its files
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

fn main() -> ExitCode {
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> io::Result<()> {
    let hub = FakeHub::start();
    let mut repo = hub.repo(&arguments.repo).commit(COMMIT);
    if let Some(folder) = &arguments.folder {
        repo = repo.folder(folder, arguments.lfs_from)?;
    }
    if let Some(size) = arguments.synthetic {
        let content = Content::generated(1, size.as_u64());
        // Hashed before anyone waits for the first answer.
        writeln!(io::stderr(), "{}  {SYNTHETIC}", content.sha256())?;
        repo = repo.lfs(SYNTHETIC, content);
    }
    if let Some(token) = &arguments.token {
        drop(repo.access(Access::Gated));
        hub.token(token, &[&arguments.repo]);
    }
    if let Some(latency_ms) = arguments.latency_ms {
        hub.fault(Rule::new(Fault::Latency(Duration::from_millis(latency_ms))));
    }
    if let Some(rate) = arguments.rate {
        hub.fault(Fault::Rate { bytes_per_s: rate.as_u64() });
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "HF_ENDPOINT={}", hub.endpoint())?;
    stdout.flush()?;
    for line in io::stdin().lock().lines() {
        if line?.trim() == "requests" {
            for request in hub.requests() {
                let range = request.range.as_deref().unwrap_or("-");
                let (origin, method, status) = (request.origin, &request.method, request.status);
                writeln!(stdout, "{origin:?} {method} {status} {range} {} {}", request.bytes_sent, request.target)?;
            }
            writeln!(stdout, "credentials at the CDN: {}", hub.cdn_credentials_seen())?;
            stdout.flush()?;
        }
    }
    // Without a stdin it runs until it is killed.
    loop {
        std::thread::park();
    }
}
