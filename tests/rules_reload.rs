//! Rules that are read again while the gateway runs: a good set takes the place of the one before as a whole, and a bad
//! one changes nothing and says what is wrong with it, where.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;

use serde_json::json;
use support::{Gateway, IdentityProvider, RESOURCE, server};

const HEAD: &str = "schema = 1\n[pack]\nid = \"own\"\nversion = \"1\"\n";

/// A rule for `word` and twelve letters or digits behind it.
fn rule(word: &str) -> String {
    format!(
        "[[rule]]\nid = \"{}\"\ntitle = \"Planted\"\ncategory = \"credential\"\n\
         pattern = '\\b({word}-[a-z0-9]{{12}})\\b'\ntests.match = [\"{word}-abcdef123456\"]\n",
        word.to_ascii_lowercase()
    )
}

/// A server that sends back what a call says.
fn start_server() -> SocketAddr {
    server::start(|_, message| {
        // The rules look at answers too: what is sent must not be masked on its way in.
        let word = message["params"]["arguments"]["text"].as_str()?;
        let content = json!([{"type": "text", "text": format!("{word}-abcdef123456")}]);
        Some(server::json(&server::result(message, json!({ "content": content }))))
    })
}

/// What comes back for `word`, masked or not, from one of the workers.
fn masked(to: SocketAddr, token: &str, word: &str) -> bool {
    let mut stream = TcpStream::connect(to).expect("the gateway listens");
    stream.write_all(&support::call("/tools", token, 1, word)).expect("sent");
    let mut seen = Vec::new();
    let answer = support::read_answer(&mut stream, &mut Vec::new(), &mut seen).expect("answered");
    let text = String::from_utf8_lossy(&answer.1).into_owned();
    assert_eq!(answer.0, 200, "{text}");
    let bare = text.contains(&format!("{word}-abcdef123456"));
    assert_ne!(bare, text.contains(&format!("[{}", word.to_ascii_lowercase())), "{text}");
    !bare
}

/// Connections for each question; all of them go to one worker less than once in 30,000 runs.
const CONNECTIONS: usize = 16;

fn all(to: SocketAddr, token: &str, words: [(&str, bool); 3]) {
    for (word, expected) in words {
        for _ in 0..CONNECTIONS {
            assert_eq!(masked(to, token, word), expected, "{word}");
        }
    }
}

/// Reads the rules again, and gives what is said of it.
fn reload(gateway: &Gateway, rules: &str, says: &str) -> String {
    let before = gateway.log().len();
    std::fs::write(Path::new(&gateway.directory).join("rules.toml"), rules).expect("written");
    gateway.reload();
    let begun = std::time::Instant::now();
    loop {
        let log = gateway.log();
        if log[before..].contains(says) {
            return log[before..].to_owned();
        }
        assert!(begun.elapsed().as_secs() < 20, "{says} is not in {}", &log[before..]);
        thread::sleep(std::time::Duration::from_millis(10));
    }
}

// Mutants: a set whose own tests fail is taken; good rules are not read again.
#[test]
fn a_bad_set_of_rules_changes_nothing_and_says_why() {
    let directory = tempfile::tempdir().expect("directory");
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let provider = IdentityProvider::start();
    let here = directory.path();
    let mut gateway =
        Gateway::prepare(&binary, here, &provider, start_server(), "[0, 1]", "written", "");
    gateway.few_rules(&format!("{HEAD}{}", rule("FIRST")));
    gateway.start();
    let token = provider.token("ada", &["engineering"], RESOURCE);
    let to = gateway.address;
    let first = [("FIRST", true), ("SECOND", false), ("THIRD", false)];
    all(to, &token, first);

    for (bad, says) in [
        // A key that nobody knows.
        (format!("{HEAD}{}typo = 1\n", rule("SECOND")), "typo"),
        // A pattern that does not end.
        (format!("{HEAD}{}", rule("SECOND").replace("{12}", "+")), "without an upper bound"),
        // A test of its own that fails.
        (
            format!("{HEAD}{}", rule("SECOND").replace("[\"SECOND-abcdef", "[\"SECOND_abcdef")),
            "a test of its own fails",
        ),
        // A good rule beside a bad one.
        (
            format!("{HEAD}{}{}", rule("SECOND"), rule("THIRD").replace("credential", "x")),
            "category",
        ),
        // No file of rules at all.
        ("\u{feff}{".to_owned(), "rules.toml"),
    ] {
        let said = reload(&gateway, &bad, says);
        assert!(said.contains("rules.toml"), "{said}");
        assert!(!said.contains("was read again"), "{said}");
        all(to, &token, first);
    }

    let good = format!("{HEAD}{}{}", rule("SECOND"), rule("THIRD"));
    reload(&gateway, &good, "the configuration was read again");
    all(to, &token, [("FIRST", false), ("SECOND", true), ("THIRD", true)]);
    assert!(gateway.stop());
    let (code, out, err) = gateway.command(&["verify", "--key", &gateway.verifier]);
    assert_eq!(code, 0, "{out}{err}");
}
