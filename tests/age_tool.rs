//! Key files and identities against Debian's `age`: what is written here opens there, and the other
//! way round. The tool is installed by tests/setup.sh; without it these tests fail and say so.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use stenograph::record::age::{
    AgeFault, Identity, PAYLOAD_BYTES_MAX, Recipient, decrypt, encrypt, load_identities,
};
use stenograph::record::seal::DataKey;

/// An SSH key as a recipient: its stanza is of a kind that is not known here.
const SSH: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";

fn tool(name: &str, arguments: &[&str], input: &[u8]) -> Output {
    let child = Command::new(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| {
        panic!("{name} cannot be run ({error}): install Debian's package age (tests/setup.sh)")
    });
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let done = child.wait_with_output().unwrap();
    feed.join().unwrap();
    done
}

fn good(name: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let done = tool(name, arguments, input);
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

/// Random enough for a test, another one for each call.
fn random(bytes: &mut [u8]) {
    use std::io::Read as _;
    std::fs::File::open("/dev/urandom").unwrap().read_exact(bytes).unwrap();
}

/// An identity file by each maker: this program and `age-keygen`.
fn makers(directory: &Path) -> [(PathBuf, Recipient); 2] {
    let (ours, theirs) = (directory.join("ours.key"), directory.join("theirs.key"));
    let done = Command::new(env!("CARGO_BIN_EXE_stenograph"))
        .args(["keygen", "auditor", "--out"])
        .arg(&ours)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    good("age-keygen", &["-o", theirs.to_str().unwrap()], b"");
    // The umask of whoever runs the test decides about what age-keygen makes.
    std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(0o600)).unwrap();
    [ours, theirs].map(|file| {
        let said = good("age-keygen", &["-y", file.to_str().unwrap()], b"");
        let said = String::from_utf8(said).unwrap();
        let recipient = Recipient::parse(said.trim_end()).unwrap();
        let read = load_identities(&file).unwrap();
        assert_eq!(*read[0].recipient(), recipient, "{}", file.display());
        (file, recipient)
    })
}

// Mutants: info of the payload key misspelled; share and recipient in the other order; the MAC without
// its `---`; nonce of a chunk that is not the last.
#[test]
fn key_files_open_with_the_age_tool() {
    let directory = tempfile::tempdir().unwrap();
    let makers = makers(directory.path());
    let recipients = makers.each_ref().map(|(_, recipient)| recipient.clone());
    for size in [0, 1, 48, PAYLOAD_BYTES_MAX] {
        let payload = vec![b'p'; size];
        let file = encrypt(&payload, &recipients, &mut random);
        for (identity, _) in &makers {
            let opened = good("age", &["-d", "-i", identity.to_str().unwrap()], &file);
            assert!(opened == payload, "{size} bytes with {}", identity.display());
        }
    }
    let key = DataKey::generate(&random);
    let file = key.to_file(&recipients[..1], &random);
    let opened = good("age", &["-d", "-i", makers[0].0.to_str().unwrap()], &file);
    assert_eq!((opened.len(), &opened[..16]), (48, &key.id().0[..]));
    let other = tool("age", &["-d", "-i", makers[1].0.to_str().unwrap()], &file);
    assert!(!other.status.success(), "it was sealed to the first alone");
}

// Mutants: a stanza of an unknown kind refused; only the first stanza tried.
#[test]
fn files_of_the_age_tool_open_here() {
    let directory = tempfile::tempdir().unwrap();
    let makers = makers(directory.path());
    let [ours, theirs] = makers.each_ref().map(|(_, recipient)| recipient.to_string());
    let stranger = Identity::from_seed(&[7; 32]);
    for size in [0, 1, 48, PAYLOAD_BYTES_MAX] {
        let payload = vec![b'q'; size];
        let file = good("age", &["-r", SSH, "-r", &ours, "-r", &theirs], &payload);
        for (identity, _) in &makers {
            let opened = decrypt(&file, &load_identities(identity).unwrap());
            assert!(**opened.unwrap() == payload, "{size} bytes with {}", identity.display());
        }
        let refused = decrypt(&file, std::slice::from_ref(&stranger)).unwrap_err();
        assert_eq!(refused, AgeFault::OtherIdentity);
    }
    // More than one chunk is no key file; a file in armor is another form.
    let identities = load_identities(&makers[0].0).unwrap();
    let long = good("age", &["-r", &ours], &vec![b'q'; PAYLOAD_BYTES_MAX + 1]);
    assert!(matches!(decrypt(&long, &identities), Err(AgeFault::Form(_))));
    let armored = good("age", &["-a", "-r", &ours], b"q");
    assert!(matches!(decrypt(&armored, &identities), Err(AgeFault::Form(_))));
}
