//! The deny list, the file it stands in, `revoke`, and the watch.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;
use stenograph::app::denyfile::{Change, DenyFileFault, RevokeFault, Watch, load, revoke, watch};
use stenograph::auth::deny::{DenyBy, DenyEntry, DenyList, entry_text};
use stenograph::types::Identity;

const ISSUER: &str = "https://login.example.com";

fn identity(issuer: &str, subject: &str, client: Option<&str>, token_id: Option<&str>) -> Identity {
    Identity {
        issuer: issuer.into(),
        subject: subject.into(),
        client: client.map(Into::into),
        token_id: token_id.map(Into::into),
        groups: Vec::new(),
        claims: serde_json::Map::new(),
        key_id: "k".into(),
        key_thumbprint: "t".into(),
        issued_s: 0,
        expires_s: u64::MAX,
    }
}

fn subject(name: &str) -> Identity {
    identity(ISSUER, name, None, None)
}

#[test]
fn a_file_is_read_whole() {
    let text = r#"
        # out since Friday
        [[deny]]
        issuer = "https://login.example.com"
        subject = "contractor-7"
        reason = "left"
        since = 2026-11-20T17:00:00Z

        [[deny]]
        issuer = "https://login.example.com"
        client = "old-ide"
        since = "Friday"

        [[deny]]
        issuer = "https://other.example.com"
        jti = "t-1"
    "#;
    let list = DenyList::parse(text).unwrap();
    assert_eq!(list.entries().len(), 3);
    assert_eq!(list.entries()[0].since.as_deref(), Some("2026-11-20T17:00:00Z"));
    let by = |identity: &Identity| list.denies(identity).map(|reason| (reason.entry, reason.by));
    assert_eq!(by(&subject("contractor-7")), Some((0, DenyBy::Subject)));
    assert_eq!(by(&subject("contractor-77")), None);
    assert_eq!(by(&subject("Contractor-7")), None);
    assert_eq!(by(&identity("https://login.example.com/", "contractor-7", None, None)), None);
    assert_eq!(by(&identity(ISSUER, "a", Some("old-ide"), None)), Some((1, DenyBy::Client)));
    assert_eq!(by(&identity(ISSUER, "a", None, Some("t-1"))), None, "of another issuer");
    let other = identity("https://other.example.com", "a", None, Some("t-1"));
    assert_eq!(by(&other), Some((2, DenyBy::Token)));
    assert!(DenyList::parse("").unwrap().entries().is_empty());
}

/// Mutant: looking at `identity.client` alone lets a token pass that names the client in `azp` while
/// `client_id` names another.
#[test]
fn a_client_is_out_under_either_claim() {
    let list = DenyList::new(vec![DenyEntry {
        issuer: ISSUER.to_owned(),
        client: Some("old-ide".to_owned()),
        ..DenyEntry::default()
    }]);
    let mut caller = identity(ISSUER, "a", Some("new-ide"), None);
    assert_eq!(list.denies(&caller), None);
    caller.claims.insert("azp".to_owned(), json!("old-ide"));
    assert!(list.denies(&caller).is_some());
}

#[test]
fn every_fault_of_a_file_is_named_with_its_line() {
    let text = r#"typo = 1
[[deny]]
subject = "a"
[[deny]]
issuer = "https://login.example.com"
[[deny]]
issuer = 7
subject = ["a"]
[[deny]]
issuer = "https://login.example.com"
subjct = "a"
[[deny]]
issuer = "https://login.example.com"
subject = ""
[[deny]]
issuer = "https://login.example.com"
subject = "a\u202Eb"
reason = 1
since = true
"#;
    let faults = DenyList::parse(text).unwrap_err();
    let seen: Vec<(u32, &str)> =
        faults.iter().map(|fault| (fault.line, fault.key.as_str())).collect();
    let expected = [
        (1, "typo"),
        (2, "issuer"),
        (4, "deny"),
        (7, "issuer"),
        (8, "subject"),
        (11, "subjct"),
        (14, "subject"),
        (17, "subject"),
        (18, "reason"),
        (19, "since"),
    ];
    assert_eq!(seen, expected);
    assert!(faults.iter().all(|fault| !fault.allowed.is_empty() && !fault.seen.is_empty()));
    for (text, line) in [
        ("[[deny]]\nissuer = \"a\nsubject = \"b\"", 2),
        ("[[deny]]\nissuer = \"a\"\nissuer = \"b\"\nsubject = \"c\"", 3),
        ("\n[deny]\nissuer = \"a\"\nsubject = \"b\"", 2),
        ("deny = 1", 1),
        ("deny = [1]", 1),
    ] {
        let faults = DenyList::parse(text).unwrap_err();
        assert_eq!(faults[0].line, line, "{text:?}: {faults:?}");
    }
}

fn entry_strategy() -> impl Strategy<Value = DenyEntry> {
    let name = || proptest::option::of("[ab]");
    ("[xy]", name(), name(), name()).prop_map(|(issuer, subject, client, token_id)| DenyEntry {
        issuer,
        subject,
        client,
        token_id,
        ..DenyEntry::default()
    })
}

proptest! {
    /// The list against its obvious twin: every entry compared with the caller, one after the other.
    ///
    /// Mutants: `fits` without one of its three lines; the index by subject only.
    #[test]
    fn the_list_agrees_with_its_twin(
        entries in proptest::collection::vec(entry_strategy(), 0..6),
        issuer in "[xyz]", subject in "[abc]",
        client in proptest::option::of("[abc]"), token_id in proptest::option::of("[abc]"),
    ) {
        let caller = identity(&issuer, &subject, client.as_deref(), token_id.as_deref());
        let equal = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let twin = entries.iter().any(|entry| {
            let somebody =
                entry.subject.is_some() || entry.client.is_some() || entry.token_id.is_some();
            somebody
                && entry.issuer == issuer
                && equal(&entry.subject, Some(&subject))
                && equal(&entry.client, client.as_deref())
                && equal(&entry.token_id, token_id.as_deref())
        });
        let list = DenyList::new(entries.clone());
        prop_assert_eq!(list.denies(&caller).is_some(), twin);
        let none = DenyList::default();
        prop_assert_eq!(list.union(&none).denies(&caller).is_some(), twin);
        prop_assert_eq!(none.union(&list).denies(&caller).is_some(), twin);
    }

    #[test]
    fn what_is_written_is_read(
        subject in any::<String>(), client in any::<String>(), reason in any::<String>(),
    ) {
        let allowed = stenograph::auth::token::name_allowed;
        prop_assume!(allowed(&subject) && allowed(&client));
        let entry = DenyEntry {
            issuer: ISSUER.to_owned(),
            subject: Some(subject),
            client: Some(client),
            reason: Some(reason),
            ..DenyEntry::default()
        };
        let text = entry_text(&entry) + &entry_text(&entry);
        let list = DenyList::parse(&text).unwrap();
        prop_assert_eq!(list.entries(), &[entry.clone(), entry][..]);
    }
}

// ---- the file --------------------------------------------------------------------------------

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deny.toml");
    (directory, path)
}

fn out(path: &Path, name: &str) -> bool {
    load(path).unwrap().denies(&subject(name)).is_some()
}

#[test]
fn revoke_adds_once_and_keeps_the_rest() {
    let (directory, path) = place();
    assert_eq!(load(&path).unwrap_err(), DenyFileFault::Missing);
    let done = revoke(&path, ISSUER, &["a", "b", "a"], &["ide"], &["t-1"], Some("left")).unwrap();
    assert_eq!((done.added, done.already), (4, 1));
    let before = fs::read_to_string(&path).unwrap();
    let done = revoke(&path, ISSUER, &["b"], &["ide"], &[], Some("other reason")).unwrap();
    assert_eq!((done.added, done.already), (0, 2));
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    assert!(out(&path, "a") && out(&path, "b") && !out(&path, "c"));
    assert!(load(&path).unwrap().denies(&identity(ISSUER, "c", Some("ide"), None)).is_some());

    // Comments, mode and inode of a link's target directory stay; a last line without end too.
    let own = format!("# ours\n{}# end", before.trim_end());
    fs::write(&path, &own).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let link = directory.path().join("link.toml");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    revoke(&link, ISSUER, &["c"], &[], &[], None).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(&own) && out(&path, "c") && out(&path, "a"));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(names.len(), 2, "no temporary file is left");
}

/// Mutants: without the lock entries are lost; with `File::create` on the file itself a reader sees
/// half of it.
#[test]
fn revoking_at_once_loses_nothing_and_readers_never_see_half() {
    let (_directory, path) = place();
    revoke(&path, ISSUER, &["first"], &[], &[], None).unwrap();
    let over = AtomicBool::new(false);
    let reads = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert!(out(&path, "first"));
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let path = &path;
                scope.spawn(move || {
                    for number in 0..10 {
                        let name = format!("s-{writer}-{number}");
                        revoke(path, ISSUER, &[&name, "same"], &[], &[], None).unwrap();
                    }
                })
            })
            .collect();
        // Ended before anything is judged: a failure must not leave the reader running.
        let ends: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        over.store(true, Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.unwrap());
        reader.join().unwrap();
    });
    assert!(reads.load(Ordering::Relaxed) > 10);
    assert_eq!(load(&path).unwrap().entries().len(), 1 + 40 + 1);
}

#[test]
fn revoke_refuses_and_leaves_the_file_as_it_was() {
    let (_directory, path) = place();
    for (issuer, names) in
        [(ISSUER, &[][..]), (ISSUER, &[""][..]), (ISSUER, &["a\nb"][..]), ("", &["a"][..])]
    {
        let fault = revoke(&path, issuer, names, &[], &[], None).unwrap_err();
        assert!(matches!(fault, RevokeFault::Name), "{fault}");
    }
    assert!(!path.exists());
    let broken = "[[deny]]\nissuer = \"a\"\n";
    fs::write(&path, broken).unwrap();
    let fault = revoke(&path, ISSUER, &["a"], &[], &[], None).unwrap_err();
    assert!(matches!(fault, RevokeFault::File(DenyFileFault::Content(_))), "{fault}");
    assert_eq!(fs::read_to_string(&path).unwrap(), broken);
    fs::write(&path, b"\xff").unwrap();
    assert_eq!(load(&path).unwrap_err(), DenyFileFault::NotText);
    // What a run that died has left is no obstacle.
    fs::write(&path, "").unwrap();
    fs::write(path.with_file_name(".deny.toml.new"), "half").unwrap();
    revoke(&path, ISSUER, &["a"], &[], &[], None).unwrap();
    assert!(out(&path, "a"));
    let missing = path.with_file_name("no-such-folder").join("deny.toml");
    let fault = revoke(&missing, ISSUER, &["a"], &[], &[], None).unwrap_err();
    assert!(matches!(fault, RevokeFault::Write(..)), "{fault}");
}

// ---- the watch -------------------------------------------------------------------------------

struct Watched {
    list: Arc<Mutex<Arc<DenyList>>>,
    faults: Arc<Mutex<Vec<DenyFileFault>>>,
    _watch: Watch,
}

impl Watched {
    fn start(path: &Path, first: DenyList) -> Watched {
        let list = Arc::new(Mutex::new(Arc::new(first)));
        let faults = Arc::new(Mutex::new(Vec::new()));
        let first = Arc::clone(&list.lock().unwrap());
        let watch = watch(path, first, {
            let (list, faults) = (Arc::clone(&list), Arc::clone(&faults));
            move |change| match change {
                Change::List(new) => *list.lock().unwrap() = new,
                Change::Kept(fault) => faults.lock().unwrap().push(fault),
            }
        })
        .unwrap();
        Watched { list, faults, _watch: watch }
    }

    fn out(&self, name: &str) -> bool {
        let list = Arc::clone(&self.list.lock().unwrap());
        list.denies(&subject(name)).is_some()
    }

    /// How long until `until` holds.
    fn wait(&self, what: &str, until: impl Fn(&Watched) -> bool) -> Duration {
        let began = Instant::now();
        while !until(self) {
            assert!(began.elapsed() < Duration::from_secs(10), "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
        began.elapsed()
    }

    /// `name` must stay out for as long as a watch could need to make a mistake.
    fn stays_out(&self, name: &str, how_long: Duration) {
        let began = Instant::now();
        while began.elapsed() < how_long {
            assert!(self.out(name), "let back in after {:?}", began.elapsed());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn faults(&self) -> usize {
        self.faults.lock().unwrap().len()
    }
}

/// Contract: within a second.
#[test]
fn a_revoked_subject_is_out_within_a_second() {
    let (_directory, path) = place();
    let watched = Watched::start(&path, DenyList::default());
    for number in 0..4 {
        let name = format!("contractor-{number}");
        assert!(!watched.out(&name));
        revoke(&path, ISSUER, &[&name], &[], &[], None).unwrap();
        let took = watched.wait("revocation", |watched| watched.out(&name));
        assert!(took < Duration::from_millis(900), "{took:?}");
    }
    assert_eq!(watched.faults(), 0, "a file that was never there is no fault");
}

/// Mutants: publishing the new list at once when an entry is gone; an empty list for a missing or
/// faulty file.
#[test]
fn nobody_gets_back_in_by_accident() {
    let (_directory, path) = place();
    revoke(&path, ISSUER, &["a", "b"], &[], &[], None).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let watched = Watched::start(&path, load(&path).unwrap());
    // An editor that empties the file first and takes its time.
    fs::write(&path, "").unwrap();
    watched.stays_out("a", Duration::from_millis(600));
    fs::write(&path, &text).unwrap();
    watched.stays_out("a", Duration::from_millis(1500));
    assert_eq!(watched.faults(), 0);
    // A file that says nothing understandable; new entries in it do not count, old ones do.
    fs::write(&path, format!("{text}\n[[deny]]\nissuer = 1\n")).unwrap();
    watched.wait("fault", |watched| watched.faults() == 1);
    watched.stays_out("a", Duration::from_millis(1500));
    assert_eq!(watched.faults(), 1, "told once");
    // A file that is gone.
    fs::remove_file(&path).unwrap();
    watched.wait("fault", |watched| watched.faults() == 2);
    watched.stays_out("a", Duration::from_millis(1500));
    assert_eq!(watched.faults.lock().unwrap()[1], DenyFileFault::Missing);
}

#[test]
fn an_entry_that_is_taken_out_ends_after_the_file_has_settled() {
    let (_directory, path) = place();
    revoke(&path, ISSUER, &["a", "b"], &[], &[], None).unwrap();
    let watched = Watched::start(&path, load(&path).unwrap());
    let entry = |name: &str| DenyEntry {
        issuer: ISSUER.to_owned(),
        subject: Some(name.to_owned()),
        ..DenyEntry::default()
    };
    fs::write(&path, entry_text(&entry("b"))).unwrap();
    watched.stays_out("a", Duration::from_millis(900));
    watched.wait("end of the entry", |watched| !watched.out("a"));
    assert!(watched.out("b"));
    // Same length, in place, with the old time put back: only the content tells.
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, entry_text(&entry("c"))).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    let took = watched.wait("a change of the same length", |watched| watched.out("c"));
    assert!(took < Duration::from_millis(900), "{took:?}");
}
