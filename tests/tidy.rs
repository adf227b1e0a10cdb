//! The rules of the house, as a test: who may use whom, where unsafe code may stand, what may not be
//! left behind. Each complaint says file, line, rule and what to do instead. The rules are tested on
//! bad snippets themselves, at the end.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/lexer.rs"]
mod lexer;

use lexer::{Token, What};

/// The floors of `src/lib.rs`. A module uses lower floors and itself; modules of one floor do not know
/// each other.
const FLOORS: &[(&str, u8)] = &[
    ("limits", 0),
    ("types", 0),
    ("wire", 1),
    ("guard", 2),
    ("auth", 2),
    ("record", 2),
    ("gateway", 3),
    ("worker", 4),
    ("audit", 4),
    ("app", 5),
];

/// Modules that may not use a lower one all the same: the record's format must be readable with
/// floor 0 alone, so that another verifier can be written from it.
const NOT_EVEN_LOWER: &[(&str, &str)] = &[("record", "wire")];

/// Files that may hold unsafe code, each with the reason.
const UNSAFE_REGISTER: &[(&str, &str)] = &[
    (
        "src/record/hash.rs",
        "code for the SHA extensions is entered after the CPU was asked for them",
    ),
    (
        "src/guard/simd/mod.rs",
        "code for wide instructions is entered after the CPU was asked for them",
    ),
    ("src/guard/simd/avx512.rs", "wide instructions load and store whole blocks"),
    ("src/guard/simd/avx2.rs", "wide instructions load whole blocks"),
    ("src/wire/seek.rs", "calls code for SSE2, which every x86-64 has"),
    ("src/worker/socket.rs", "tokio-uring gives its sockets out as raw descriptors only"),
    ("src/app/kernelclock.rs", "adjtimex has no safe wrapper that gives the stated errors"),
];

/// What stands at the top of the repository, apart from files whose name begins with a dot.
const TOP_LEVEL: &[&str] = &[
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "fuzz",
    "src",
    "target",
    "tests",
    "tuning",
];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Complaint {
    line: usize,
    rule: &'static str,
    instead: String,
}

fn complaint(line: usize, rule: &'static str, instead: impl Into<String>) -> Complaint {
    Complaint { line, rule, instead: instead.into() }
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// Module path of a file under `src/`: `wire/head/read.rs` is `[wire, head, read]`.
fn module_path(file: &str) -> Vec<&str> {
    let path = file.strip_suffix(".rs").unwrap_or(file);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').filter(|part| !["lib", "main"].contains(part)).collect()
}

fn is_mark(token: Option<&Token>, mark: char) -> bool {
    token.is_some_and(|token| token.what == What::Mark(mark))
}

fn name_of(token: Option<&Token>) -> Option<&str> {
    match token.map(|token| &token.what) {
        Some(What::Name(name)) => Some(name),
        _ => None,
    }
}

/// The name at `at` begins an attribute: `#[name` or `#![name`.
fn is_attribute(tokens: &[Token], at: usize) -> bool {
    let before = |count: usize, mark| at >= count && is_mark(tokens.get(at - count), mark);
    before(1, '[') && (before(2, '#') || (before(2, '!') && before(3, '#')))
}

/// Reads `::` at `at`.
fn is_path_mark(code: &[Token], at: usize) -> bool {
    is_mark(code.get(at), ':') && is_mark(code.get(at + 1), ':')
}

/// The first names after a path that ends at the crate root: one, or those of a list in braces.
fn names_after(code: &[Token], mut at: usize) -> Vec<(usize, String)> {
    if !is_path_mark(code, at) {
        return Vec::new();
    }
    at += 2;
    if let Some(name) = name_of(code.get(at)) {
        return vec![(code[at].line, name.to_owned())];
    }
    let mut names = Vec::new();
    let mut depth = 0;
    let mut expects = false;
    while let Some(token) = code.get(at) {
        match &token.what {
            What::Mark('{') => {
                depth += 1;
                expects = depth == 1;
            }
            What::Mark('}') if depth <= 1 => break,
            What::Mark('}') => depth -= 1,
            What::Mark(',') if depth == 1 => expects = true,
            What::Name(name) if expects => {
                names.push((token.line, name.clone()));
                expects = false;
            }
            _ => {}
        }
        at += 1;
    }
    names
}

/// Every top-level module that the code names, by `crate::`, by a chain of `super::` that ends at the
/// root, or by the crate's own name.
fn used_modules(file: &str, code: &[Token]) -> Vec<(usize, String)> {
    let file_depth = module_path(file).len();
    let mut inline_modules: Vec<usize> = Vec::new();
    let mut braces = 0;
    let mut used = Vec::new();
    let mut at = 0;
    while at < code.len() {
        match &code[at].what {
            What::Mark('{') => braces += 1,
            What::Mark('}') => {
                braces -= 1;
                if inline_modules.last() == Some(&braces) {
                    inline_modules.pop();
                }
            }
            What::Name(name) if name == "mod" && is_mark(code.get(at + 2), '{') => {
                inline_modules.push(braces);
            }
            What::Name(name) if name == "crate" || name == "stenograph" => {
                used.extend(names_after(code, at + 1));
            }
            What::Name(name) if name == "super" => {
                let mut count = 1;
                while is_path_mark(code, at + 1) && name_of(code.get(at + 3)) == Some("super") {
                    (count, at) = (count + 1, at + 3);
                }
                if count >= file_depth + inline_modules.len() {
                    used.extend(names_after(code, at + 1));
                }
            }
            _ => {}
        }
        at += 1;
    }
    used
}

fn check_floors(file: &str, code: &[Token]) -> Vec<Complaint> {
    let path = module_path(file);
    let Some(own) = path.first() else { return Vec::new() };
    let Some(own_floor) = floor(own) else {
        let instead = "give the module a floor in src/lib.rs and in FLOORS of tests/tidy.rs";
        return vec![complaint(1, "module without a floor", instead)];
    };
    let mut complaints = Vec::new();
    for (line, module) in used_modules(file, code) {
        let Some(used_floor) = floor(&module) else { continue };
        let barred = NOT_EVEN_LOWER.contains(&(own, module.as_str()));
        let both_ground = own_floor == 0 && used_floor == 0;
        if module == *own || both_ground || (used_floor < own_floor && !barred) {
            continue;
        }
        let instead = format!(
            "{own} (floor {own_floor}) may not use {module} (floor {used_floor}): hand the thing in \
             as an argument, or move it to a lower floor"
        );
        complaints.push(complaint(line, "import goes up or sideways", instead));
    }
    complaints
}

fn check_head(tokens: &[Token]) -> Vec<Complaint> {
    match tokens.first().map(|token| &token.what) {
        Some(What::Comment(text)) if text.starts_with("//!") && text.trim().len() > 4 => Vec::new(),
        _ => {
            let instead = "begin the file with //! and say what it is for and what it does not do";
            vec![complaint(1, "file without a head", instead)]
        }
    }
}

fn check_unsafe(file: &str, tokens: &[Token], register: &[(&str, &str)]) -> Vec<Complaint> {
    let registered = register.iter().any(|(name, _)| *name == file);
    let mut complaints = Vec::new();
    let mut found = false;
    for (at, token) in tokens.iter().enumerate() {
        if token.what != What::Name("unsafe".to_owned()) {
            continue;
        }
        found = true;
        if !registered {
            let instead = "use a safe crate, or move it into a file of UNSAFE_REGISTER";
            complaints.push(complaint(token.line, "unsafe outside the register", instead));
            continue;
        }
        // The note is the block of comment lines right above the statement.
        let ends_search =
            |token: &&Token| matches!(token.what, What::Comment(_) | What::Mark(';' | '{' | '}'));
        let near =
            tokens[..at].iter().rposition(|token| ends_search(&token)).map_or(0, |at| at + 1);
        let mut noted = false;
        let mut below = usize::MAX;
        for token in tokens[..near].iter().rev() {
            match &token.what {
                What::Comment(text) if below == usize::MAX || token.line + 1 == below => {
                    noted |= text.contains("SAFETY: ") || text.contains("# Safety");
                    below = token.line;
                }
                _ => break,
            }
        }
        if !noted {
            let instead = "write // SAFETY: above it: why each obligation holds here";
            complaints.push(complaint(token.line, "unsafe without a note", instead));
        }
    }
    if registered && !found {
        complaints.push(complaint(1, "no unsafe code here", "take it out of UNSAFE_REGISTER"));
    }
    complaints
}

fn check_left_over(tokens: &[Token]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match &token.what {
            What::Comment(text) => {
                let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
                if words.any(|word| ["FIXME", "XXX", "TODO"].contains(&word)) {
                    let instead = "do it, or write Gap: with the consequence";
                    complaints.push(complaint(token.line, "left-over marker", instead));
                }
            }
            What::Name(name)
                if is_mark(tokens.get(at + 1), '!')
                    && ["todo", "unimplemented", "dbg"].contains(&name.as_str()) =>
            {
                let instead = "write what it stands for";
                complaints.push(complaint(token.line, "left-over macro", instead));
            }
            What::Name(name) if name == "ignore" && is_attribute(tokens, at) => {
                complaints.push(complaint(
                    token.line,
                    "ignored test",
                    "run the test, or delete it",
                ));
            }
            _ => {}
        }
    }
    complaints
}

/// The product does not hide lints wholesale; support code that several tests share may.
fn check_allow(tokens: &[Token]) -> Vec<Complaint> {
    let is_allow = |at: usize| name_of(tokens.get(at)) == Some("allow") && is_attribute(tokens, at);
    let instead = "use #[expect(…, reason = \"…\")] at the item";
    let complain = |at: usize| complaint(tokens[at].line, "blanket allow", instead);
    (0..tokens.len()).filter(|at| is_allow(*at)).map(complain).collect()
}

/// Known holes: they have to say something, and are listed by the test.
fn gaps(tokens: &[Token]) -> Vec<(usize, String)> {
    let gap = |token: &Token| match &token.what {
        What::Comment(text) => {
            let (_, gap) = text.split_once(" Gap: ")?;
            Some((token.line, gap.trim().to_owned()))
        }
        _ => None,
    };
    tokens.iter().filter_map(gap).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, by its path from the root of the repository, sorted.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let mut folders = vec![root().join(folder)];
    let mut paths: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if name != "target" && name != "node_modules" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        (name, fs::read_to_string(&path).expect("a source file is readable UTF-8"))
    };
    paths.into_iter().map(read).collect()
}

fn without_comments(tokens: &[Token]) -> Vec<Token> {
    tokens.iter().filter(|token| !matches!(token.what, What::Comment(_))).cloned().collect()
}

#[test]
fn the_house_is_tidy() {
    let mut complaints = Vec::new();
    let mut files = rust_files("src");
    assert!(files.len() > 10, "the source was found");
    for (name, source) in &files {
        let tokens = lexer::read(source);
        let file = name.strip_prefix("src/").expect("below src");
        let mut found = check_unsafe(name, &tokens, UNSAFE_REGISTER);
        found.extend(check_allow(&tokens));
        if !["lib.rs", "main.rs"].contains(&file) {
            found.extend(check_floors(file, &without_comments(&tokens)));
        }
        complaints.extend(found.into_iter().map(|one| (name.clone(), one)));
    }
    files.extend(["tests", "benches", "fuzz"].into_iter().flat_map(rust_files));
    for (name, source) in &files {
        let tokens = lexer::read(source);
        let mut found = check_head(&tokens);
        found.extend(check_left_over(&tokens));
        if !name.starts_with("src/") {
            found.extend(check_unsafe(name, &tokens, &[]));
        }
        for (line, gap) in gaps(&tokens).into_iter().filter(|_| !name.starts_with("tests/tidy")) {
            println!("{name}:{line}: gap: {gap}");
            if gap.len() < 20 {
                found.push(complaint(
                    line,
                    "gap without words",
                    "say what is missing and what follows",
                ));
            }
        }
        complaints.extend(found.into_iter().map(|one| (name.clone(), one)));
    }
    for (file, reason) in UNSAFE_REGISTER {
        assert!(!reason.is_empty());
        assert!(root().join(file).exists(), "UNSAFE_REGISTER names {file}, which is not there");
    }
    let text: Vec<String> = complaints
        .iter()
        .map(|(file, one)| format!("{file}:{}: {}: {}", one.line, one.rule, one.instead))
        .collect();
    assert!(text.is_empty(), "{} complaints\n{}", text.len(), text.join("\n"));
}

#[test]
fn the_top_of_the_repository_is_clear() {
    let entries = fs::read_dir(root()).expect("the repository");
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let strangers: Vec<String> = names
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()))
        .collect();
    assert!(strangers.is_empty(), "{strangers:?}: put them into one of {TOP_LEVEL:?}");
}

#[test]
fn the_map_shows_every_floor() {
    let map = fs::read_to_string(root().join("src/lib.rs")).expect("the map");
    for (module, floor) in FLOORS {
        let row = map.lines().find(|line| line.contains(&format!("[`{module}`]")));
        let row = row.unwrap_or_else(|| panic!("src/lib.rs does not show {module}"));
        assert!(row.starts_with(&format!("//! | {floor} |")), "{row}");
    }
}

/// The rules of a snippet, as `rule@line`.
fn rules_of(file: &str, source: &str) -> Vec<String> {
    let tokens = lexer::read(source);
    let mut found = check_head(&tokens);
    found.extend(check_floors(file, &without_comments(&tokens)));
    found.extend(check_unsafe(file, &tokens, &[("guard/registered.rs", "for this test")]));
    found.extend(check_left_over(&tokens));
    found.extend(check_allow(&tokens));
    found.into_iter().map(|one| format!("{}@{}", one.rule, one.line)).collect()
}

#[test]
fn bad_snippets_are_found() {
    let up = "import goes up or sideways";
    let cases: &[(&str, &str, &[&str])] = &[
        ("wire/a.rs", "//! A head.\nuse crate::types::Span;", &[]),
        ("wire/a.rs", "//! A head.\nuse crate::guard::x;", &[up]),
        ("guard/a.rs", "//! A head.\nuse crate::wire::x;\nuse crate::guard::y;", &[]),
        ("guard/a.rs", "//! A head.\nuse crate::{\nauth::x, wire::y};", &[up]),
        ("guard/a.rs", "//! A head.\nfn f() { \ncrate::auth::g() }", &[up]),
        ("guard/a.rs", "//! A head.\n\nuse super::super::record::x;", &[up]),
        ("guard/a/b.rs", "//! A head.\n\nuse super::super::record::x;", &[]),
        ("guard/mod.rs", "//! A head.\nuse super::record::x;", &[up]),
        ("record/a.rs", "//! A head.\nuse crate::wire::x;", &[up]),
        ("types.rs", "//! A head.\nuse crate::limits::x;", &[]),
        ("app/a.rs", "//! A head.\nuse stenograph::worker::x; // use crate::y", &[]),
        (
            "gateway/a.rs",
            "//! A head.\n/// [`crate::worker`]\nconst X: &str = \"crate::app\";",
            &[],
        ),
        ("attic/a.rs", "//! A head.", &["module without a floor"]),
        ("wire/a.rs", "fn f() {}", &["file without a head"]),
        ("wire/a.rs", "//!\nfn f() {}", &["file without a head"]),
        ("wire/a.rs", "//! A head.\nfn f() { unsafe { g() } }", &["unsafe outside the register"]),
        ("wire/a.rs", "//! unsafe\n// unsafe\nconst X: &str = \"unsafe\";", &[]),
        (
            "guard/registered.rs",
            "//! A head.\n// SAFETY: it holds.\nunsafe impl Send for X {}",
            &[],
        ),
        (
            "guard/registered.rs",
            "//! A head.\nfn f() {\n    // SAFETY: it holds\n    // for that reason.\n    let x = unsafe { g() };\n}",
            &[],
        ),
        (
            "guard/registered.rs",
            "//! A head.\nfn f() {\n    // Why: fast.\n    let x = unsafe { g() };\n}",
            &["unsafe without a note"],
        ),
        (
            "guard/registered.rs",
            "//! A head.\nfn f() {\n    // SAFETY: of another one.\n    h();\n    let x = unsafe { g() };\n}",
            &["unsafe without a note"],
        ),
        ("guard/registered.rs", "//! A head.", &["no unsafe code here"]),
        ("wire/a.rs", "//! A head.\n// FIXME: later", &["left-over marker"]),
        ("wire/a.rs", "//! A head.\n// XXXL is a size; TODOS too\nconst X: &str = \"XXX\";", &[]),
        ("wire/a.rs", "//! A head.\nfn f() { dbg!(1); }", &["left-over macro"]),
        ("wire/a.rs", "//! A head.\nfn f() { todo!() }", &["left-over macro"]),
        ("wire/a.rs", "//! A head.\n#[test]\n#[ignore]\nfn f() {}", &["ignored test"]),
        ("wire/a.rs", "//! A head.\n#![allow(dead_code)]", &["blanket allow"]),
        ("wire/a.rs", "//! A head.\nfn allow(ignore: u8) { x[0]; y.allow(ignore) }", &[]),
    ];
    for (file, source, expected) in cases {
        let found = rules_of(file, source);
        let rules: Vec<&str> = found.iter().filter_map(|one| one.split('@').next()).collect();
        assert_eq!(&rules, expected, "{file}\n{source}");
    }
    // A chain of super leaves the folder one step later inside an inline module.
    let inline =
        "//! A head.\nmod tests { use super::super::record::x; }\nuse super::super::record::x;";
    assert_eq!(rules_of("guard/a.rs", inline), ["import goes up or sideways@3"]);
    assert_eq!(gaps(&lexer::read("// Gap: nothing is checked")).len(), 1);
}
