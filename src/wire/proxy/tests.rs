//! Both versions of the header, byte by byte.

use super::*;

fn done(input: &[u8]) -> (Proxied, usize) {
    match read(input) {
        Read::Done { value, used } => (value, used),
        other => panic!("{other:?} of {input:02x?}"),
    }
}

fn rule(input: &[u8]) -> ProxyRule {
    match read(input) {
        Read::Broken(fault) => fault.rule,
        other => panic!("{other:?} of {:?}", String::from_utf8_lossy(input)),
    }
}

fn caller(source: &str, destination: &str) -> Proxied {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    Proxied::Caller { source, destination }
}

/// A header of version 2.
fn block(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
}

const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 0x01, 0xbb];

fn vector(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &(value.len() as u16).to_be_bytes()[..], value].concat()
}

/// A header with the right checksum as its last vector.
fn with_checksum(before: &[u8]) -> Vec<u8> {
    let mut header = block(0x21, 0x11, &[&V4, before, &vector(VECTOR_CRC32C, &[0; 4])].concat());
    let at = header.len() - 4;
    let sum = crc32c(&header, at..at + 4);
    header[at..].copy_from_slice(&sum.to_be_bytes());
    header
}

#[test]
fn lines_of_version_1_are_read() {
    let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\nGET / HTTP/1.1\r\n";
    assert_eq!(done(line), (caller("192.0.2.7:40000", "198.51.100.1:443"), 45));
    let line = b"PROXY TCP6 2001:db8::7 ::1 0 65535\r\n";
    assert_eq!(done(line), (caller("[2001:db8::7]:0", "[::1]:65535"), line.len()));
    assert_eq!(done(b"PROXY UNKNOWN\r\nx"), (Proxied::Own, 15));
    assert_eq!(done(b"PROXY UNKNOWN ff:: x 99999\r\n").0, Proxied::Own);
    // The longest line of the specification.
    let ends = "ffff:f...f:ffff".replace("f...f", "ffff:ffff:ffff:ffff:ffff:ffff");
    let longest = format!("PROXY UNKNOWN {ends} {ends} 65535 65535\r\n");
    assert_eq!((longest.len(), done(longest.as_bytes()).1), (107, 107));
}

#[test]
fn lines_that_are_not_of_the_grammar_are_refused() {
    use ProxyRule::{Address, LineForm, LineTooLong, Missing, Port, Protocol};
    for (text, wanted) in [
        ("GET / HTTP/1.1\r\n", Missing),
        ("proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Missing),
        ("PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", LineForm),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", LineForm),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", LineForm),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", LineForm),
        ("PROXY UNKNOWN\n", LineForm),
        ("PROXY TCP 1.1.1.1 2.2.2.2 1 2\r\n", Protocol),
        ("PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", Protocol),
        ("PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n", Address),
        ("PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n", Address),
        ("PROXY TCP4 ::1 2.2.2.2 1 2\r\n", Address),
        ("PROXY TCP6 1.1.1.1 ::2 1 2\r\n", Address),
        ("PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n", Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n", Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n", Port),
    ] {
        assert_eq!(rule(text.as_bytes()), wanted, "{text:?}");
    }
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    assert_eq!(rule(endless.as_bytes()), LineTooLong);
}

#[test]
fn blocks_of_version_2_are_read() {
    let mut input = block(0x21, 0x11, &V4);
    input.extend_from_slice(b"\x16\x03\x01");
    assert_eq!(done(&input), (caller("192.0.2.7:40000", "198.51.100.1:443"), 28));

    let mut v6 = [0; 36];
    v6[15] = 7;
    v6[31] = 1;
    v6[33] = 9;
    assert_eq!(done(&block(0x21, 0x21, &v6)).0, caller("[::7]:9", "[::1]:0"));

    // 192.0.2.7 and 198.51.100.1 as addresses of IPv6 are what they are as addresses of IPv4.
    v6[..16].copy_from_slice(&"::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets());
    v6[16..32].copy_from_slice(&"::ffff:198.51.100.1".parse::<Ipv6Addr>().unwrap().octets());
    assert_eq!(done(&block(0x21, 0x21, &v6)).0, caller("192.0.2.7:9", "198.51.100.1:0"));
    let line = b"PROXY TCP6 ::ffff:192.0.2.7 ::FFFF:c633:6401 40000 443\r\n";
    assert_eq!(done(line).0, caller("192.0.2.7:40000", "198.51.100.1:443"));

    assert_eq!(done(&block(0x20, 0x00, b"")), (Proxied::Own, 16));
    assert_eq!(done(&block(0x20, 0x11, &V4)), (Proxied::Own, 28));
    assert_eq!(done(&block(0x20, 0x31, b"anything")), (Proxied::Own, 24));
    assert_eq!(done(&block(0x21, 0x00, b"")), (Proxied::Own, 16));
    // An empty vector, one that means nothing (0x04), one that nobody knows.
    let vectors = [vector(0x04, b""), vector(0x01, b"http/1.1"), vector(0xe0, b"x")].concat();
    assert_eq!(done(&block(0x21, 0x11, &[&V4[..], &vectors].concat())).1, 28 + vectors.len());
}

#[test]
fn blocks_that_are_not_of_the_grammar_are_refused() {
    use ProxyRule::{BlockTooLong, BlockTooShort, Missing, Protocol, Vector};
    assert_eq!(rule(b"\r\n\r\n\0\r\nQUIT\r"), Missing);
    for command in [0x00, 0x11, 0x22, 0x31] {
        assert_eq!(rule(&block(command, 0x11, &V4)), Protocol, "{command:#x}");
    }
    for family in [0x01, 0x10, 0x12, 0x22, 0x31, 0x32, 0x41] {
        assert_eq!(rule(&block(0x21, family, &V4)), Protocol, "{family:#x}");
    }
    assert_eq!(rule(&block(0x21, 0x11, &V4[..11])), BlockTooShort);
    assert_eq!(rule(&block(0x21, 0x21, &[0; 35])), BlockTooShort);
    assert_eq!(rule(&block(0x21, 0x11, &[0; PROXY_BYTES_MAX])), BlockTooLong);
    for rest in [&[1][..], &[1, 0], &[1, 0, 1], &[4, 0, 0, 4], &[1, 0xff, 0xff]] {
        assert_eq!(rule(&block(0x21, 0x11, &[&V4[..], rest].concat())), Vector, "{rest:?}");
    }
}

/// Checked against the mutant that takes every checksum for right.
#[test]
fn a_checksum_that_is_there_is_right() {
    // RFC 3720 B.4: thirty-two bytes of zero; and the check value of the CRC catalogues.
    assert_eq!(crc32c(&[0; 32], 0..0), 0x8a91_36aa);
    assert_eq!(crc32c(b"123456789", 0..0), 0xe306_9283);
    let header = with_checksum(&vector(0x01, b"http/1.1"));
    assert_eq!(done(&header).1, header.len());
    // Without its type byte the vector is no checksum.
    for at in (16..header.len()).filter(|at| *at != header.len() - 7) {
        let mut changed = header.clone();
        changed[at] ^= 0x40;
        assert!(matches!(read(&changed), Read::Broken(_)), "byte {at}");
    }
    assert_eq!(rule(&with_checksum(&vector(VECTOR_CRC32C, &[0; 4]))), ProxyRule::Checksum);
    let short = block(0x21, 0x11, &[&V4[..], &vector(VECTOR_CRC32C, &[0; 3])].concat());
    assert_eq!(rule(&short), ProxyRule::Checksum);
}

#[test]
fn every_cut_gives_the_same_answer() {
    let inputs = [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 040000 443\r\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIX".to_vec(),
        b"PROXx".to_vec(),
        block(0x20, 0x00, b""),
        block(0x21, 0x12, &V4),
        with_checksum(b""),
    ];
    for input in inputs {
        let whole = read(&input);
        assert_ne!(whole, Read::More);
        for end in 0..=input.len() {
            let cut = read(&input[..end]);
            assert!(cut == Read::More || cut == whole, "{end} of {input:02x?}: {cut:?}");
        }
        let mut longer = input.clone();
        longer.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(read(&longer), whole, "{input:02x?}");
    }
}

#[test]
fn networks_hold_the_addresses_that_share_their_first_bits() {
    let holds = |network: &str, address: &str| {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    };
    assert!(holds("10.0.0.5", "10.0.0.5") && !holds("10.0.0.5", "10.0.0.4"));
    assert!(holds("10.0.0.5", "::ffff:10.0.0.5") && !holds("10.0.0.5", "::a00:5"));
    assert!(holds("192.0.2.0/24", "192.0.2.255") && !holds("192.0.2.0/24", "192.0.3.0"));
    assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "::1"));
    assert!(
        holds("2001:db8::/33", "2001:db8:7fff::1") && !holds("2001:db8::/33", "2001:db8:8000::")
    );
    assert!(holds("::/0", "::1") && !holds("::/0", "10.0.0.1"));
    for text in
        ["", "10.0.0", "10.0.0.5/33", "10.0.0.5/24", "::1/129", "10.0.0.0/08", "a/8", "::/-1"]
    {
        assert!(Network::parse(text).is_err(), "{text}");
    }
}
