//! The configuration reader: what it accepts, and that it reports every fault at once with its place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use stenograph::app::config::{Config, Cores, MaskStyle, Problem, Release};
use stenograph::auth::token::Algorithm;
use stenograph::guard::{Opaque, Structured};
use stenograph::record::keys;
use stenograph::wire::coding::Coding;

fn vector(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/config").join(name);
    fs::read_to_string(path).expect("the vector is there")
}

fn faults(text: &str) -> Vec<Problem> {
    Config::read(text, Path::new("/etc/stenograph/stenograph.toml")).err().unwrap_or_default()
}

/// Line and key of each fault, in order.
fn places(text: &str) -> Vec<(Option<u32>, String)> {
    faults(text).into_iter().map(|fault| (fault.line, fault.key)).collect()
}

const BASE: &str = include_str!("vectors/config/readme.toml");

/// The base with one piece of text replaced.
fn with(old: &str, new: &str) -> String {
    assert!(BASE.contains(old), "{old}");
    BASE.replacen(old, new, 1)
}

#[test]
fn the_readme_example_is_accepted() {
    let config = Config::read(BASE, Path::new("/etc/stenograph/stenograph.toml")).unwrap();
    assert_eq!(config.workers.cores, Cores::Auto);
    assert_eq!(config.workers.ring_depth, 1024);
    let algorithms = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];
    assert_eq!(config.issuers[0].algorithms, algorithms);
    assert_eq!(config.issuers[0].token_types, ["at+jwt", "JWT"]);
    assert_eq!(config.issuers[0].groups_claim, "groups");
    assert_eq!(config.record.release, Release::Written);
    assert_eq!(config.record.directory, Path::new("/etc/stenograph/record"));
    assert_eq!(config.record.fingerprint_key, Path::new("/etc/stenograph/fingerprint.key"));
    assert_eq!(config.deny_file, Some(PathBuf::from("/etc/stenograph/deny.toml")));
    assert!(config.guard.builtin && config.guard.rule_files.is_empty());
}

#[test]
fn every_key_is_read() {
    let config = Config::read(&vector("full.toml"), Path::new("/c/s.toml")).unwrap();
    assert_eq!(config.workers.cores, Cores::List(vec![0, 1]));
    assert_eq!(config.workers.ring_depth, 2048);
    assert_eq!(config.listens.len(), 2);
    assert_eq!(config.listens[0].origins, ["https://ide.example.com"]);
    assert_eq!(config.listens[0].hosts, ["gateway.internal"]);
    assert_eq!(config.issuers[0].groups_claim, "realm_access.roles");
    let codegen = &config.upstreams[0];
    assert_eq!((codegen.name.as_str(), codegen.connections), ("codegen", 16));
    assert_eq!(codegen.decode, [Coding::Gzip, Coding::Zstd]);
    assert!(config.upstreams[1].decode.is_empty());
    let credential = codegen.credential.as_ref().unwrap();
    assert_eq!(credential.header, "authorization");
    assert_eq!(credential.file, Path::new("/c/codegen.credential"));
    assert_eq!(config.upstreams[1].url.target, "/");
    let grant = &config.grants[0];
    assert_eq!(grant.upstream, 0);
    assert_eq!(grant.issuer.as_deref(), Some("https://login.example.com"));
    assert_eq!((grant.mask, grant.release), (Some(MaskStyle::Label), Some(Release::Synced)));
    assert_eq!((grant.opaque, config.grants[1].opaque), (Opaque::Block, Opaque::Allow));
    assert_eq!(grant.resources, ["file:///public/*"]);
    let claims = &config.grants[1].claims;
    assert!(claims.contains(&("team".to_owned(), vec!["x".to_owned()])));
    assert!(claims.contains(&("level".to_owned(), vec!["a".to_owned(), "b".to_owned()])));
    assert_eq!(config.guard.rule_files, [PathBuf::from("/c/own.toml")]);
    assert_eq!(config.guard.structured, Structured::Mask);
    assert_eq!(config.guard.secrets[0].id, "known-secret-0");
    assert_eq!(config.guard.secrets[1].id, "root-password");
    assert_eq!(config.limits.head_bytes_max, 16 * 1024);
    assert_eq!(config.limits.body_bytes_max, 65_536);
    assert_eq!(config.limits.answer_ms_max, 30_000);
    assert_eq!(config.limits.connections_max, 500);
    assert!(config.public_text().contains("head_bytes_max = \"16KiB\""));
    assert!(!config.public_text().contains('#'), "comments stay out of the record");
}

/// Mutant: `Problems::at` that keeps only the first problem; `Section::finish` that reports nothing.
#[test]
fn seven_faults_are_seven_problems() {
    let text = vector("seven-faults.toml");
    let expected = [
        (2, "listen[0].adress"),
        (3, "listen[0].address"),
        (6, "issuer[0].url"),
        (10, "upstream[0].path"),
        (15, "grant[0].upstream"),
        (16, "grant[0].groups"),
        (23, "limits.answer_ms_max"),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(line, key)| (Some(*line), (*key).to_owned())).collect();
    assert_eq!(places(&text), expected);
    let faults = faults(&text);
    assert!(faults[0].allowed.contains("did you mean `address`?"), "{}", faults[0]);
    assert!(faults[4].allowed.contains("did you mean `codegen`?"), "{}", faults[4]);
}

#[test]
fn each_fault_is_one_problem_at_its_place() {
    let cases: &[(&str, &str, u32, &str)] = &[
        ("address = \"127.0.0.1:8080\"", "address = 8080", 2, "listen[0].address"),
        ("address = \"127.0.0.1:8080\"", "address = \"127.0.0.1\"", 2, "listen[0].address"),
        ("address = \"127.0.0.1:8080\"\n", "\n", 1, "listen[0].address"),
        (
            "address = \"127.0.0.1:8080\"",
            "address = \"127.0.0.1:8080\"\ntls = { certificate = \"c\" }",
            3,
            "listen[0].tls.key",
        ),
        (
            "address = \"127.0.0.1:8080\"",
            "address = \"127.0.0.1:8080\"\norigins = [\"https://x\",\n\"https://y/\"]",
            4,
            "listen[0].origins[1]",
        ),
        (
            "address = \"127.0.0.1:8080\"",
            "address = \"127.0.0.1:8080\"\nhosts = [\"gateway.internal:8080\"]",
            3,
            "listen[0].hosts[0]",
        ),
        ("https://login.example.com", "https://login.example.com?x", 5, "issuer[0].url"),
        ("https://login.example.com", "login.example.com", 5, "issuer[0].url"),
        (
            "url = \"https://login.example.com\"",
            "url = \"https://login.example.com\"\nalgorithms = [\"HS256\"]",
            6,
            "issuer[0].algorithms[0]",
        ),
        (
            "url = \"https://login.example.com\"",
            "url = \"https://login.example.com\"\nalgorithms = []",
            6,
            "issuer[0].algorithms",
        ),
        (
            "[[upstream]]",
            "[[issuer]]\nurl = \"https://login.example.com\"\n[[upstream]]",
            8,
            "issuer[1].url",
        ),
        ("name = \"everything\"\n", "\n", 7, "upstream[0].name"),
        ("name = \"everything\"", "name = \"every thing\"", 8, "upstream[0].name"),
        ("path = \"/everything\"", "path = \"/.well-known/x\"", 9, "upstream[0].path"),
        (
            "address = \"127.0.0.1:8080\"",
            "address = \"127.0.0.1:8080\"\ntls = { certificates = [] }",
            3,
            "listen[0].tls",
        ),
        (
            "address = \"127.0.0.1:8080\"",
            "address = \"127.0.0.1:8080\"\ntls = { certificate = \"c\", key = \"k\", client_certificate = \"optional\" }",
            3,
            "listen[0].tls.client_certificate",
        ),
        (
            "address = \"127.0.0.1:8080\"",
            "address = \"127.0.0.1:8080\"\ntls = { certificate = \"c\", key = \"k\", client_ca = \"a\", client_certificate = \"maybe\" }",
            3,
            "listen[0].tls.client_certificate",
        ),
        ("[[grant]]", "tls = { ca = \"ca.pem\" }\n[[grant]]", 13, "upstream[0].tls"),
        (
            "http://127.0.0.1:3001/mcp\"",
            "https://127.0.0.1:3001/mcp\"\ntls = { server_name = \"a b\" }",
            11,
            "upstream[0].tls.server_name",
        ),
        ("http://127.0.0.1:3001/mcp", "127.0.0.1:3001/mcp", 10, "upstream[0].url"),
        ("http://127.0.0.1:8080/everything", "/everything", 11, "upstream[0].resource"),
        ("http://127.0.0.1:8080/everything", "https://x/y#z", 11, "upstream[0].resource"),
        ("[[grant]]", "connections = 0\n[[grant]]", 13, "upstream[0].connections"),
        (
            "[[grant]]",
            "credential = { header = \"Host\", file = \"x\" }\n[[grant]]",
            13,
            "upstream[0].credential.header",
        ),
        ("[[grant]]", "credential = \"secret-value\"\n[[grant]]", 13, "upstream[0].credential"),
        ("upstream = \"everything\"", "upstream = \"nothing\"", 14, "grant[0].upstream"),
        ("groups = [\"engineering\"]\n", "\n", 13, "grant[0].groups"),
        ("groups = [\"engineering\"]", "groups = []", 15, "grant[0].groups"),
        ("groups = [\"engineering\"]", "groups = [\"a\"]\nrecord = \"no\"", 16, "grant[0].record"),
        (
            "groups = [\"engineering\"]",
            "groups = [\"a\"]\nrecord = \"sealed\"",
            16,
            "grant[0].record",
        ),
        (
            "groups = [\"engineering\"]",
            "issuer = \"https://x\"\ngroups = [\"a\"]",
            15,
            "grant[0].issuer",
        ),
        ("groups = [\"engineering\"]", "groups = [\"a\"]\nmask = \"blur\"", 16, "grant[0].mask"),
        ("groups = [\"engineering\"]", "groups = [\"a\"]\nopaque = true", 16, "grant[0].opaque"),
        (
            "groups = [\"engineering\"]",
            "groups = [\"a\"]\nopaque = \"mask\"",
            16,
            "grant[0].opaque",
        ),
        ("[deny]\nfile", "[deny]\nfiles = \"x\"\nfile", 20, "deny.files"),
        (
            "directory = \"record\"",
            "directory = \"record\"\nrelease = \"now\"",
            24,
            "record.release",
        ),
        ("directory = \"record\"", "directory = \"record\"\nseal_to = []", 24, "record.seal_to"),
        ("signing_key = \"log.key\"\n", "\n", 22, "record.signing_key"),
        ("[admin]", "[limits]\nbody_byte_max = 1024\n[admin]", 27, "limits.body_byte_max"),
        ("[admin]", "[limits]\nbody_bytes_max = \"5MiB\"\n[admin]", 27, "limits.body_bytes_max"),
        ("[admin]", "[limits]\nbody_bytes_max = -1\n[admin]", 27, "limits.body_bytes_max"),
        ("[admin]", "[limits]\nhead_fields_max = 1\n[admin]", 27, "limits.head_fields_max"),
        ("[admin]", "[limits]\nanswer_ms_max = 30\n[admin]", 27, "limits.answer_ms_max"),
        ("[admin]", "[workers]\ncores = \"all\"\n[admin]", 27, "workers.cores"),
        ("[admin]", "[workers]\ncores = [0, 0]\n[admin]", 27, "workers.cores[1]"),
        ("[admin]", "[workers]\nring_depth = 1000\n[admin]", 27, "workers.ring_depth"),
        ("[admin]", "[guard]\nrules = \"builtin\"\n[admin]", 27, "guard.rules"),
        ("[admin]", "[[guard.secret]]\nid = \"x\"\n[admin]", 26, "guard.secret[0].file"),
        ("[admin]", "[admn]", 26, "admn"),
        ("9464\"", "9464", 27, "syntax"),
        ("groups = [\"engineering\"]", "groups = [\"a\"]\ngroups = [\"b\"]", 16, "syntax"),
        ("signing_key = \"log.key\"", "signing_key = log.key", 24, "syntax"),
        ("[record]", "[record", 22, "syntax"),
    ];
    for (old, new, line, key) in cases {
        let text = with(old, new);
        assert_eq!(
            places(&text),
            [(Some(*line), (*key).to_owned())],
            "{new}\n{:#?}",
            faults(&text)
        );
    }
}

#[test]
fn missing_sections_are_named() {
    let keys: Vec<_> = faults("").into_iter().map(|fault| (fault.line, fault.key)).collect();
    let expected = ["[[listen]]", "[[issuer]]", "[[upstream]]", "[record]"];
    assert_eq!(keys, expected.map(|key| (None, key.to_owned())));
}

#[test]
fn entries_that_must_be_distinct_are() {
    let upstream = "[[upstream]]\nname = \"everything\"\npath = \"/everything\"\n\
                    url = \"http://127.0.0.1:3001/mcp\"\nresource = \"http://127.0.0.1:8080/everything\"\n";
    let text = format!("{BASE}\n{upstream}\n[[listen]]\naddress = \"127.0.0.1:8080\"\n");
    let keys: Vec<_> = faults(&text).into_iter().map(|fault| fault.key).collect();
    let expected =
        ["upstream[1].name", "upstream[1].path", "upstream[1].resource", "listen[1].address"];
    assert_eq!(keys, expected);
}

/// Mutant: `required("issuer")` asked for at three issuers only.
#[test]
fn two_issuers_make_every_grant_name_one() {
    let text =
        with("[[upstream]]", "[[issuer]]\nurl = \"https://other.example.com\"\n[[upstream]]");
    assert_eq!(places(&text), [(Some(15), "grant[0].issuer".to_owned())]);
    let text = text.replace("groups =", "issuer = \"https://other.example.com\"\ngroups =");
    assert_eq!(places(&text), []);
}

#[test]
fn plain_http_issuers_are_for_loopback() {
    for (url, accepted) in [
        ("http://127.0.0.1:9000", true),
        ("http://localhost:9000/realm", true),
        ("http://[::1]:9000", true),
        ("http://10.0.0.1:9000", false),
        ("http://127.0.0.1.example.com", false),
    ] {
        assert_eq!(faults(&with("https://login.example.com", url)).is_empty(), accepted, "{url}");
    }
}

#[test]
fn one_unnamed_upstream_is_one_fault() {
    let text = with("name = \"everything\"\n", "\n");
    assert_eq!(places(&text).len(), 1);
    let text = format!("{text}\n[[grant]]\nupstream = \"other\"\ngroups = [\"x\"]\n");
    assert_eq!(places(&text).len(), 3, "two distinct names, one unnamed upstream");
}

#[test]
fn values_that_may_be_secrets_are_not_repeated() {
    let text = with("[[grant]]", "credential = \"hunter2-hunter2\"\n[[grant]]");
    for fault in faults(&text) {
        assert!(!fault.to_string().contains("hunter2"), "{fault}");
    }
}

#[test]
fn the_longest_path_wins() {
    let config = Config::read(&vector("full.toml"), Path::new("/c/s.toml")).unwrap();
    assert_eq!(config.upstream_of("/codegen"), Some(0));
    assert_eq!(config.upstream_of("/codegen/x"), Some(0));
    assert_eq!(config.upstream_of("/codegenx"), Some(1));
    assert_eq!(config.upstream_of("/"), Some(1));
    let config = Config::read(BASE, Path::new("/c/s.toml")).unwrap();
    assert_eq!(config.upstream_of("/other"), None);
}

fn write(path: &Path, text: &[u8], mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Mutant: the mode test with `0o007` in place of `0o077`.
#[test]
fn files_are_there_and_keys_are_private() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str| home.path().join(name);
    let text = with(
        "[admin]",
        "[guard]\nrules = [\"builtin\", \"own.toml\"]\n[[guard.secret]]\nfile = \"s\"\n[admin]",
    )
    .replace("[[grant]]", "credential = { header = \"x-key\", file = \"c\" }\n[[grant]]")
    .replace("[record]", "[record]\nfingerprint_key = \"f\"");
    write(&file("stenograph.toml"), text.as_bytes(), 0o644);
    let keys = || -> Vec<String> {
        let faults = Config::check(&file("stenograph.toml")).err().unwrap_or_default();
        faults.into_iter().map(|fault| fault.key).collect()
    };
    let all = [
        "upstream[0].credential.file",
        "record.signing_key",
        "guard.rules[1]",
        "guard.secret[0].file",
    ];
    assert_eq!(keys(), all, "missing files; a missing fingerprint key is made by serve");
    write(&file("c"), b"value\n", 0o640);
    write(&file("deny.toml"), b"[[deny]]\nsubject = 3\n", 0o644);
    let key = keys::generate("test", &mut |bytes| bytes.fill(7)).unwrap();
    write(&file("log.key"), key.to_text().as_bytes(), 0o604);
    write(&file("own.toml"), b"", 0o644);
    write(&file("s"), b"long enough\n", 0o660);
    write(&file("f"), &[b'a'; 63], 0o600);
    let unprivate = [
        "upstream[0].credential.file",
        "deny.file",
        "deny.file",
        "record.fingerprint_key",
        "record.signing_key",
        "guard.rules",
        "guard.secret[0].file",
    ];
    assert_eq!(keys(), unprivate);
    write(&file("own.toml"), b"schema = 1\n[pack]\nid = \"own\"\nversion = \"1\"\n", 0o644);
    write(&file("c"), b"two\nlines\n", 0o600);
    fs::remove_file(file("deny.toml")).unwrap();
    fs::remove_file(file("log.key")).unwrap();
    keys::create_signing_key(&file("log.key"), &key).unwrap();
    write(&file("s"), b"short\n", 0o600);
    write(&file("f"), &[b'a'; 64], 0o600);
    assert_eq!(keys(), ["upstream[0].credential.file", "guard.secret[0].file"]);
    write(&file("c"), b"Bearer two words\n", 0o600);
    write(&file("s"), b"long enough", 0o600);
    assert_eq!(keys(), [""; 0]);
}

#[test]
fn a_config_that_is_not_there_is_one_problem() {
    let faults = Config::load(Path::new("/nowhere/stenograph.toml")).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].key, "file");
}

/// No text makes the reader panic, and whatever it accepts it can also print.
#[test]
fn cut_and_broken_texts_are_answered() {
    let full = vector("full.toml");
    for cut in (0..full.len()).filter(|cut| full.is_char_boundary(*cut)) {
        let _ = Config::read(&full[..cut], Path::new("s.toml"));
        let mut broken = full.clone();
        broken.remove(cut);
        if let Ok(config) = Config::read(&broken, Path::new("s.toml")) {
            assert!(!config.public_text().is_empty());
        }
    }
}

/// The configuration in the README is the one that is tested.
#[test]
fn the_readme_shows_the_tested_configuration() {
    let readme = include_str!("../README.md");
    let block = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(block, Some(BASE));
}

/// Mutants: the seen text of a secret identity quoted; `seal_tokens` without auditors accepted.
#[test]
fn auditors_are_named_by_recipients_and_a_secret_is_never_quoted() {
    use stenograph::record::age::Identity;
    let identity = Identity::from_seed(&[7; 32]);
    let (good, secret) = (identity.recipient().to_string(), identity.to_text());
    let record =
        |lines: &str| with("directory = \"record\"", &format!("directory = \"record\"\n{lines}"));
    let config = Config::read(
        &record(&format!("seal_to = [\"{good}\"]\nseal = \"payloads\"\nseal_tokens = true")),
        Path::new("s.toml"),
    )
    .unwrap();
    assert_eq!(config.record.seal_to, [identity.recipient().clone()]);
    assert!(config.record.seal_payloads && config.record.seal_tokens);
    let many: Vec<String> = (0..17u8)
        .map(|seed| format!("{:?}", Identity::from_seed(&[seed; 32]).recipient().to_string()))
        .collect();
    for (lines, key) in [
        (format!("seal_to = [\"{}\"]", *secret), "record.seal_to[0]"),
        (
            format!("seal_to = [\"{good}\", \"{}\"]", good.replace("age1", "age2")),
            "record.seal_to[1]",
        ),
        (format!("seal_to = [\"{good}\", \"{good}\"]"), "record.seal_to[1]"),
        (format!("seal_to = \"{good}\""), "record.seal_to"),
        (format!("seal_to = [{}]", many.join(", ")), "record.seal_to"),
        ("seal = \"masked\"".to_owned(), "record.seal"),
        ("seal_tokens = true".to_owned(), "record.seal_tokens"),
        (format!("seal_to = [\"{good}\"]\nseal = \"all\""), "record.seal"),
        (format!("seal_to = [\"{good}\"]\nseal_tokens = 1"), "record.seal_tokens"),
    ] {
        let text = record(&lines);
        let found = faults(&text);
        assert_eq!(found.len(), 1, "{lines}: {found:#?}");
        assert_eq!(found[0].key, key, "{lines}");
        assert!(!found[0].to_string().to_uppercase().contains(&secret[20..]), "{}", found[0]);
    }
}
