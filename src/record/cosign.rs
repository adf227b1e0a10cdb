//! Cosignatures: what a witness signs when it has seen that a log only grew, `cosignature/v1` of
//! c2sp.org/tlog-cosignature, and the keys for it.
//!
//! The signed message is `cosignature/v1\ntime <seconds since the epoch>\n` and the whole text of the
//! checkpoint; the line in a note is `— <name> base64(key hash 4 || seconds u64, big-endian ||
//! Ed25519 signature 64)`. A witness's key has the algorithm byte 0x04, so that it can never pass for
//! the key of a log.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

use super::keys::{ALGORITHM_COSIGNATURE, KeyFault, LogKey, VerifierKey};
use super::note::SignatureLine;

/// A witness's signing key with its name.
#[derive(Debug, Clone)]
pub struct WitnessKey {
    key: LogKey,
    verifier: WitnessVerifier,
}

/// The public half of a witness's key with its name. Prints as the C2SP verifier key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessVerifier(VerifierKey);

fn message(text: &str, seconds: u64) -> String {
    format!("cosignature/v1\ntime {seconds}\n{text}")
}

impl WitnessKey {
    /// A fresh key from 32 random bytes given by `random`.
    pub fn generate(name: &str, random: &mut dyn FnMut(&mut [u8])) -> Result<WitnessKey, KeyFault> {
        let mut seed = [0; 32];
        random(&mut seed);
        let key = WitnessKey::from_seed(name, &seed);
        seed.zeroize();
        key
    }

    /// The key with this seed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<WitnessKey, KeyFault> {
        LogKey::from_seed_as(ALGORITHM_COSIGNATURE, name, seed).map(WitnessKey::of)
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<WitnessKey, KeyFault> {
        LogKey::parse_as(ALGORITHM_COSIGNATURE, text).map(WitnessKey::of)
    }

    fn of(key: LogKey) -> WitnessKey {
        let verifier = WitnessVerifier(key.verifier().clone());
        WitnessKey { key, verifier }
    }

    /// The text form, a secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        self.key.to_text()
    }

    /// Its public half.
    pub fn verifier(&self) -> &WitnessVerifier {
        &self.verifier
    }

    /// The signature line over the text of a checkpoint, with its line feed.
    pub fn cosign(&self, text: &str, seconds: u64) -> String {
        let mut bytes = self.verifier.0.hash().to_vec();
        bytes.extend_from_slice(&seconds.to_be_bytes());
        bytes.extend_from_slice(&self.key.sign(message(text, seconds).as_bytes()));
        format!("\u{2014} {} {}\n", self.verifier.name(), STANDARD.encode(bytes))
    }
}

impl WitnessVerifier {
    /// Reads the text form.
    pub fn parse(text: &str) -> Result<WitnessVerifier, KeyFault> {
        VerifierKey::parse_as(ALGORITHM_COSIGNATURE, text).map(WitnessVerifier)
    }

    /// Name of the witness.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The line claims to be by this key.
    pub fn is_named(&self, line: &SignatureLine<'_>) -> bool {
        line.name == self.0.name() && line.hash == self.0.hash()
    }

    /// When this witness cosigned `text`, in seconds since the epoch; `None` when the line is not a
    /// good cosignature of it.
    pub fn verify(&self, line: &SignatureLine<'_>, text: &str) -> Option<u64> {
        let bytes = <&[u8; 72]>::try_from(&line.signature[..]).ok()?;
        let (seconds, signature) = bytes.split_at(8);
        let seconds = u64::from_be_bytes(seconds.try_into().expect("8 bytes"));
        let signature = signature.try_into().expect("64 bytes");
        // Bound: the specification allows no larger one.
        let good = self.is_named(line)
            && seconds <= i64::MAX as u64
            && self.0.verify(message(text, seconds).as_bytes(), signature);
        good.then_some(seconds)
    }
}

impl fmt::Display for WitnessVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "example.com/behind-the-sofa\n20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    // Mutants: `message` without the time line; `verify` without the key's signature check.
    #[test]
    fn every_flipped_bit_of_a_cosignature_is_refused() {
        let key = WitnessKey::from_seed("witness.example/w1", &[4; 32]).unwrap();
        let line = key.cosign(TEXT, 1_679_315_147);
        let line = line.strip_suffix('\n').unwrap();
        let read = SignatureLine::parse(line).unwrap();
        assert_eq!(key.verifier().verify(&read, TEXT), Some(1_679_315_147));
        assert_eq!(key.verifier().verify(&read, &TEXT.replace("20852163", "20852164")), None);
        for bit in 0..read.signature.len() * 8 {
            let mut other = read.clone();
            other.signature[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.verifier().verify(&other, TEXT), None, "bit {bit}");
        }
        let other = WitnessKey::from_seed("witness.example/w1", &[5; 32]).unwrap();
        assert_eq!(other.verifier().verify(&read, TEXT), None);
        let other = WitnessKey::from_seed("witness.example/w2", &[4; 32]).unwrap();
        assert_eq!(other.verifier().verify(&read, TEXT), None);
    }

    // The example of c2sp.org/tlog-cosignature has the form that is read here; its key is not given.
    #[test]
    fn the_line_of_the_specification_is_read() {
        let line = "\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5O\
            WXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==";
        let read = SignatureLine::parse(line).unwrap();
        assert_eq!((read.name, read.signature.len()), ("witness.example.com/w1", 72));
        assert_eq!(read.signature[..8], 1_679_315_147u64.to_be_bytes());
    }

    #[test]
    fn a_witness_key_is_no_log_key() {
        let witness = WitnessKey::from_seed("w", &[4; 32]).unwrap();
        let log = LogKey::from_seed("w", &[4; 32]).unwrap();
        assert!(VerifierKey::parse(&witness.verifier().to_string()).is_err());
        assert!(WitnessVerifier::parse(&log.verifier().to_string()).is_err());
        assert!(LogKey::parse(&witness.to_text()).is_err());
        let again = WitnessKey::parse(&witness.to_text()).unwrap();
        assert_eq!(again.verifier(), witness.verifier());
        assert_eq!(
            WitnessVerifier::parse(&witness.verifier().to_string()).unwrap(),
            *witness.verifier()
        );
    }
}
