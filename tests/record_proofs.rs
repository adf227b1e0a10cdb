//! Proofs and signatures against vectors that were made by other means: see `make.py` beside each file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use stenograph::record::keys::VerifierKey;
use stenograph::record::tree::proof::{continues, includes};

fn vectors(text: &str) -> Vec<Value> {
    serde_json::from_str(text).expect("the vectors are JSON")
}

fn hash(value: &Value) -> [u8; 32] {
    STANDARD.decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

// Mutants: `includes` without `index >= size`; `includes` without the inner shift; `continues` without
// `last == 0` inside the loop, with the power-of-two case dropped, without comparing the old root.
#[test]
fn proofs_get_the_verdict_of_the_definition() {
    let (mut good, mut bad) = (0, 0);
    for case in vectors(include_str!("vectors/merkle/proofs.json")) {
        let proof: Vec<[u8; 32]> = case["proof"].as_array().unwrap().iter().map(hash).collect();
        let number = |name: &str| case[name].as_u64().unwrap();
        let passed = match case["kind"].as_str().unwrap() {
            "inclusion" => {
                let (leaf, root) = (hash(&case["leaf"]), hash(&case["root"]));
                includes(number("index"), &leaf, number("size"), &root, &proof)
            }
            _ => {
                let (old, new) = (hash(&case["old_root"]), hash(&case["new_root"]));
                continues(number("old_size"), &old, number("new_size"), &new, &proof)
            }
        };
        assert_eq!(passed, case["valid"].as_bool().unwrap(), "{case}");
        if passed { good += 1 } else { bad += 1 }
    }
    assert!(good >= 60 && bad >= 490, "{good} good, {bad} bad");
}

/// The verifier key text with this public key, whatever the key is.
fn key_text(public: &[u8]) -> String {
    let name = "edges";
    let hash = Sha256::new().chain_update(b"edges\n\x01").chain_update(public).finalize();
    let hash: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}+{hash}+{}", STANDARD.encode([&[1], public].concat()))
}

// Mutants: `verify` in place of `verify_strict`; `is_weak` not asked.
#[test]
fn signatures_at_the_edges_are_checked_strictly() {
    let (mut good, mut bad) = (0, 0);
    for case in vectors(include_str!("vectors/ed25519/edges.json")) {
        let text = |name: &str| case[name].as_str().unwrap();
        let signature: [u8; 64] = bytes(text("sig")).try_into().unwrap();
        let passed = VerifierKey::parse(&key_text(&bytes(text("key"))))
            .is_ok_and(|key| key.verify(text("msg").as_bytes(), &signature));
        assert_eq!(passed, case["strict"].as_bool().unwrap(), "{case}");
        if passed { good += 1 } else { bad += 1 }
    }
    assert!(good >= 50 && bad >= 1_000, "{good} good, {bad} bad");
}

/// Encodings with a coordinate beyond the field that are no points of small order: nobody can sign with
/// them, but one key would have two names.
// Mutant: `is_canonical` not asked takes those that are points.
#[test]
fn a_key_has_one_encoding() {
    let mut points = 0;
    for above in 0..19u8 {
        for sign in [0x7f, 0xff] {
            let mut public = [0xff; 32];
            public[0] = 0xed + above;
            public[31] = sign;
            assert!(VerifierKey::parse(&key_text(&public)).is_err(), "{above}");
            points += usize::from(ed25519_dalek::VerifyingKey::from_bytes(&public).is_ok());
        }
    }
    assert!(points > 10, "{points} of them decode");
}

/// The published cases of project Wycheproof: changed, cut and lengthened signatures, scalars beyond the
/// order, made-up points.
// Mutant: `VerifierKey::verify` answers true.
#[test]
fn published_edge_cases_get_the_published_verdict() {
    use wycheproof::eddsa::{TestName, TestSet};
    let (mut good, mut bad) = (0, 0);
    for group in TestSet::load(TestName::Ed25519).unwrap().test_groups {
        let key = VerifierKey::parse(&key_text(&group.key.pk)).unwrap();
        for case in group.tests {
            let passed = <[u8; 64]>::try_from(&case.sig[..])
                .is_ok_and(|signature| key.verify(&case.msg, &signature));
            assert_eq!(passed, !case.result.must_fail(), "{} {}", case.tc_id, case.comment);
            if passed { good += 1 } else { bad += 1 }
        }
    }
    assert!(good >= 60 && bad >= 60, "{good} good, {bad} bad");
}
