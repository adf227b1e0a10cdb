//! `demo`: the story on loopback, told step by step, each step checked.
//!
//! Nothing is acted: the identity provider signs real tokens, the server really leaks, the gateway is
//! the one that `serve` runs, and what is said at the end was read back from the record on disk.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::idp::SigningKey;
use super::world::{Answer, PlainClient, Plan, World};
use crate::app::{denyfile, log};
use crate::audit::{Indexes, echoed, verify};
use crate::auth::keys::Algorithm;
use crate::record::keys;

/// A step that did not come out as it must.
#[derive(Debug)]
struct Off(String);

impl<E: std::error::Error> From<E> for Off {
    fn from(error: E) -> Off {
        Off(error.to_string())
    }
}

type Step<T> = Result<T, Off>;

fn must(holds: bool, what: &str) -> Step<()> {
    if holds { Ok(()) } else { Err(Off(format!("expected: {what}"))) }
}

struct Teller<'a> {
    out: &'a mut dyn Write,
}

impl Teller<'_> {
    fn chapter(&mut self, title: &str) -> io::Result<()> {
        writeln!(self.out, "\n{title}")
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "  {text}")
    }
}

/// Runs the story; with `hold` everything keeps running until SIGINT or SIGTERM.
pub fn run(hold: bool, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<bool> {
    // The story is told on stdout; the gateway's own lines would only stand between.
    log::set_quiet();
    let mut teller = Teller { out };
    match tell(hold, &mut teller) {
        Ok(()) => Ok(true),
        Err(Off(text)) => {
            writeln!(err, "stenograph demo: {text}")?;
            Ok(false)
        }
    }
}

fn directory() -> Step<PathBuf> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| Off(error.to_string()))?;
    let name = format!("stenograph-demo-{:08x}", u32::from_ne_bytes(random));
    Ok(std::env::temp_dir().join(name))
}

fn tell(hold: bool, teller: &mut Teller<'_>) -> Step<()> {
    let directory = directory()?;
    let world =
        World::start(&directory, Plan::default()).map_err(|error| Off(error.to_string()))?;
    teller.line("Stenograph demo: identity provider, MCP server and gateway, all on loopback.")?;

    let exchanges = engineer(&world, teller)?;
    let contractor = world.contractor();
    let stream = contractor_works(&world, &contractor, teller)?;
    contractor_is_out(&world, &contractor, stream, teller)?;
    forged(&world, teller)?;
    if hold {
        hold_on(&world, teller)?;
    }
    prove(world, &directory, &exchanges, teller)
}

fn tools(answer: &Answer) -> Vec<String> {
    let tools = answer.json()["result"]["tools"].as_array().cloned().unwrap_or_default();
    tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
}

fn exchange(answer: &Answer) -> String {
    answer.field("stenograph-exchange").unwrap_or_default().to_owned()
}

fn initialize() -> Value {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "demo-ci-job", "version": "1" } } })
}

fn engineer(world: &World, teller: &mut Teller<'_>) -> Step<Vec<String>> {
    teller.chapter("1  Ada, an engineer, asks the code generator for a client")?;
    let token = world.engineer();
    let mut client = PlainClient::connect(world.address())?;
    let hello = client.post(&token, "", &initialize())?;
    must(hello.status == 200, "initialize answers 200")?;
    let session = hello.field("mcp-session-id").unwrap_or_default().to_owned();
    let more = format!("Mcp-Session-Id: {session}\r\n");
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let list = client.post(&token, &more, &list)?;
    teller.line(&format!("tools she is shown     {}", tools(&list).join(", ")))?;
    must(
        !tools(&list).contains(&"deploy_production".to_owned()),
        "deploy_production is not shown",
    )?;

    let params = json!({ "name": "generate_code", "arguments": { "text": "an S3 client" } });
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params });
    let answer = client.post(&token, &more, &call)?;
    let text =
        answer.json()["result"]["content"][0]["text"].as_str().unwrap_or_default().to_owned();
    must(!text.is_empty(), "the call has an answer")?;
    must(!text.contains(&world.leak.github_token), "the GitHub token is masked")?;
    must(!text.contains(&world.leak.aws_key_id), "the AWS key id is masked")?;
    for line in text.lines().filter(|line| line.contains("aws_access") || line.contains("GITHUB")) {
        teller.line(&format!("what she gets          {}", line.trim()))?;
    }
    teller.line(&format!("exchange               {}", exchange(&answer)))?;
    Ok(vec![exchange(&answer)])
}

fn contractor_works(world: &World, token: &str, teller: &mut Teller<'_>) -> Step<PlainClient> {
    teller.chapter("2  Carl's CI job calls, while he still has a contract")?;
    let mut job = PlainClient::connect(world.address())?;
    let answer = job.call(token, 1, "echo", "nightly build")?;
    must(answer.json()["result"]["content"][0]["text"] == "nightly build", "echo answers")?;
    teller.line("tools/call echo        200, answered")?;
    let denied = job.call(token, 2, "deploy_production", "now")?;
    must(denied.json()["error"]["code"] == -31001, "deploy_production is not granted")?;
    teller
        .line("tools/call deploy      refused: no grant allows it (-31001), nothing forwarded")?;
    let mut stream = PlainClient::connect(world.address())?;
    stream.open_stream(token)?;
    let (head, _) = stream.head()?;
    must(head.status == 200 && stream.some()? > 0, "his stream is open")?;
    teller.line("GET                    200, his event stream is open")?;
    Ok(stream)
}

fn contractor_is_out(
    world: &World,
    token: &str,
    mut stream: PlainClient,
    teller: &mut Teller<'_>,
) -> Step<()> {
    teller.chapter("3  Carl is off-boarded; his token is still valid for an hour")?;
    let start = Instant::now();
    denyfile::revoke(
        &world.directory.join("deny.toml"),
        world.idp.url(),
        &["carl-contractor"],
        &[],
        &[],
        Some("contract ended"),
    )
    .map_err(|fault| Off(fault.to_string()))?;
    while stream.some()? > 0 {}
    let cut = start.elapsed();
    must(cut < Duration::from_secs(1), "his stream is cut within a second")?;
    teller.line(&format!(
        "stenograph revoke      his open stream was cut {} ms later",
        cut.as_millis()
    ))?;
    let answer = PlainClient::connect(world.address())?.call(token, 3, "echo", "still me")?;
    must(answer.status == 401, "the same token is refused")?;
    teller.line("the same token again   401, nothing forwarded").map_err(Off::from)
}

fn forged(world: &World, teller: &mut Teller<'_>) -> Step<()> {
    teller.chapter("4  Somebody forges a token for an engineer")?;
    let claims = world.idp.claims("ada-engineer", &["engineering"], &world.resource, 3600);
    // The provider's key id, another key: everything is right but the signature.
    let real = world.idp.mint(&claims);
    let header = real.split('.').next().unwrap_or_default();
    let header = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header)?;
    let header: Value = serde_json::from_slice(&header)?;
    let forged = SigningKey::generate("forged", Algorithm::Es256).mint_with(&header, &claims);
    let before = world.server.seen().len();
    let answer = PlainClient::connect(world.address())?.call(&forged, 4, "generate_code", "x")?;
    must(answer.status == 401, "a forged token is refused")?;
    must(world.server.seen().len() == before, "nothing was forwarded")?;
    teller.line("tools/call             401, nothing forwarded").map_err(Off::from)
}

fn hold_on(world: &World, teller: &mut Teller<'_>) -> Step<()> {
    teller.chapter("   Everything keeps running; try it with your own client (Ctrl-C goes on)")?;
    teller.line(&format!("URL        {}", world.resource))?;
    teller.line(&format!("token      {}", world.engineer()))?;
    teller.line(&format!("config     {}", world.config.display()))?;
    teller.out.flush()?;
    let mut signals = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
    ])?;
    while signals.pending().next().is_none() {
        if world.gateway.is_broken() {
            return Err(Off("the gateway ended by itself".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn prove(
    world: World,
    directory: &Path,
    exchanges: &[String],
    teller: &mut Teller<'_>,
) -> Step<()> {
    let record = world.record();
    teller.chapter("5  Was the leaked token ever seen, and by whom?")?;
    let key = keys::load_fingerprint_key(&directory.join("fingerprint.key"))?;
    let options = echoed::EchoedOptions {
        directory: record.clone(),
        secret: Zeroizing::new(world.leak.github_token.clone().into_bytes()),
        fingerprint_key: Some(Zeroizing::new(key)),
        fingerprints_only: false,
        json: true,
        indexes: Indexes::default(),
    };
    let mut found = Vec::new();
    let mut noise = Vec::new();
    echoed::run(&options, &mut found, &mut noise)?;
    let lines: Vec<Value> = String::from_utf8_lossy(&found)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let hits: Vec<&Value> = lines.iter().filter(|line| line.get("exchange").is_some()).collect();
    must(
        hits.iter().any(|hit| hit["exchange"] == exchanges[0].as_str() && hit["masked"] == true),
        "echoed names the exchange",
    )?;
    must(hits.iter().all(|hit| hit["masked"] == true), "the token was masked everywhere")?;
    for hit in &hits {
        teller.line(&format!(
            "stenograph echoed      exchange {}, {}, masked by {}",
            hit["exchange"].as_str().unwrap_or_default(),
            hit["direction"].as_str().unwrap_or_default(),
            hit["rule"].as_str().unwrap_or_default(),
        ))?;
    }

    teller.chapter("6  Is the record whole?")?;
    let World { gateway, verifier, config, .. } = world;
    gateway.stop().map_err(Off)?;
    let report = verified(&record, &verifier)?;
    must(report["intact"] == true, "the record is intact")?;
    teller.line(&format!(
        "stenograph verify      intact: {} entries, {} checkpoints, signed by {}",
        report["entries"],
        report["checkpoints"],
        verifier.split('+').next().unwrap_or_default(),
    ))?;
    let copy = directory.join("record-with-one-bit-flipped");
    let (name, at) = flip_one_bit(&record, &copy)?;
    let report = verified(&copy, &verifier)?;
    must(report["intact"] == false, "the flipped bit is found")?;
    let damage = &report["damage"][0];
    teller.line(&format!("one bit flipped        in a copy, {name} byte {at}"))?;
    teller.line(&format!(
        "stenograph verify      damaged: segment {}, byte {}: {}",
        damage["segment"],
        damage["offset"],
        damage["what"].as_str().unwrap_or_default(),
    ))?;

    teller.chapter("The record stays. Explore it:")?;
    let config = config.display();
    teller.line(&format!("stenograph sessions --config {config}"))?;
    teller.line(&format!("stenograph show {} --config {config}", exchanges[0]))?;
    teller.line(&format!("stenograph search --verdict denied --config {config}"))?;
    teller
        .line(&format!(
            "stenograph verify {} --key {}",
            record.display(),
            directory.join("log.pub").display()
        ))
        .map_err(Off::from)
}

fn verified(record: &Path, verifier: &str) -> Step<Value> {
    let options = verify::VerifyOptions {
        directory: record.to_owned(),
        key: Some(keys::VerifierKey::parse(verifier)?),
        since: Vec::new(),
        witnesses: Vec::new(),
        json: true,
        threads: std::num::NonZeroUsize::MIN,
    };
    let mut out = Vec::new();
    let mut noise = Vec::new();
    verify::run(&options, &mut out, &mut noise)?;
    Ok(serde_json::from_slice(&out)?)
}

/// Copies the record and flips one bit in the middle of its largest segment.
fn flip_one_bit(record: &Path, copy: &Path) -> Step<(String, usize)> {
    let mut largest: Option<(u64, PathBuf)> = None;
    copy_tree(record, copy, &mut largest)?;
    let (_, file) = largest.ok_or_else(|| Off("the record has no files".to_owned()))?;
    let mut bytes = fs::read(&file)?;
    let at = bytes.len() / 2;
    bytes[at] ^= 0x10;
    fs::write(&file, bytes)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((name, at))
}

fn copy_tree(from: &Path, to: &Path, largest: &mut Option<(u64, PathBuf)>) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target, largest)?;
        } else {
            let bytes = fs::copy(entry.path(), &target)?;
            // Nothing is read from the reserve, so a bit of it proves nothing.
            let segment = target.extension().is_some_and(|extension| extension == "seg");
            if segment && largest.as_ref().is_none_or(|(most, _)| bytes > *most) {
                *largest = Some((bytes, target));
            }
        }
    }
    Ok(())
}
