//! Tests of bodies: chunk framing, trailers, lengths, closing.

use super::*;

/// Payload, bytes consumed, and whether it ended; by pieces of `size`.
fn decode(
    decoder: &mut Decoder,
    input: &[u8],
    size: usize,
) -> Result<(Vec<u8>, usize, bool), BodyFault> {
    let mut payload = Vec::new();
    let mut at = 0;
    while at < input.len() {
        let end = input.len().min(at + size);
        match decoder.step(&input[at..end])? {
            Step::Data(span) => {
                payload.extend_from_slice(span.of(&input[at..end]));
                at += span.end();
            }
            Step::Skip(used) => at += used,
            Step::More => panic!("there was input"),
            Step::End { used } => return Ok((payload, at + used, true)),
        }
    }
    let done = decoder.is_done();
    Ok((payload, at, done))
}

fn chunked(input: &str, response: bool) -> Result<(Vec<u8>, usize, bool), (BodyRule, u64)> {
    let make = if response { Decoder::of_response } else { Decoder::new };
    let whole = decode(&mut make(Framing::Chunked), input.as_bytes(), usize::MAX >> 1);
    for size in 1..input.len() {
        assert_eq!(decode(&mut make(Framing::Chunked), input.as_bytes(), size), whole, "{size}");
    }
    whole.map_err(|fault| (fault.rule, fault.at))
}

#[test]
fn chunks_are_put_together() {
    let body = "5\r\nhello\r\n00A\r\n0123456789\r\n0\r\n\r\nGET";
    assert_eq!(chunked(body, false), Ok((b"hello0123456789".to_vec(), 32, true)));
    assert_eq!(chunked("0\r\n\r\n", false), Ok((vec![], 5, true)));
    assert_eq!(chunked("3\r\nab", false), Ok((b"ab".to_vec(), 5, false)));
    let max = "ffffffffffffffff\r\nab";
    assert_eq!(chunked(max, false), Ok((b"ab".to_vec(), 20, false)));
}

// Checked against the mutants: 17 digits; LF alone after the size; LF alone after the data; trailers
// of requests taken.
#[test]
fn chunk_lines_are_exact() {
    use BodyRule::*;
    for (body, rule, at) in [
        ("\r\n", ChunkSize, 0),
        ("+5\r\nhello", ChunkSize, 0),
        ("-1\r\n", ChunkSize, 0),
        ("0x5\r\nhello", ChunkSize, 1),
        (" 5\r\nhello", ChunkSize, 0),
        ("5 \r\nhello", ChunkSize, 1),
        ("5_0\r\n", ChunkSize, 1),
        ("00000000000000005\r\nhello", ChunkSize, 16),
        ("5;a=b\r\nhello", ChunkExtension, 1),
        ("5;\r\nhello", ChunkExtension, 1),
        ("5\nhello", ChunkEnd, 1),
        ("5\r\rhello", ChunkEnd, 2),
        ("5\r\nhelloX", ChunkEnd, 8),
        ("5\r\nhello\n0\r\n", ChunkEnd, 8),
        ("5\r\nhello\rX", ChunkEnd, 9),
        ("0\r\nA: b\r\n\r\n", Trailer, 3),
        ("0\r\n\rX", TrailerForm, 4),
    ] {
        assert_eq!(chunked(body, false), Err((rule, at)), "{body:?}");
    }
}

#[test]
fn trailers_of_responses_are_dropped_unless_they_frame() {
    use BodyRule::*;
    let body = "1\r\nx\r\n0\r\nServer-Timing: a\r\nX: \t\r\n\r\n";
    assert_eq!(chunked(body, true), Ok((b"x".to_vec(), body.len(), true)));
    for (body, rule, at) in [
        ("0\r\nContent-Length: 5\r\n\r\n", TrailerField, 21),
        ("0\r\nTransfer-encoding: x\r\n\r\n", TrailerField, 24),
        ("0\r\nno colon\r\n\r\n", TrailerForm, 12),
        ("0\r\n: x\r\n\r\n", TrailerForm, 7),
        ("0\r\nA : x\r\n\r\n", TrailerForm, 9),
        ("0\r\nA: \0\r\n\r\n", TrailerForm, 6),
        ("0\r\nA: x\n\r\n", TrailerForm, 7),
    ] {
        assert_eq!(chunked(body, true), Err((rule, at)), "{body:?}");
    }
    let endless = format!("0\r\n{}", "A: b\r\n".repeat(2000));
    let fault = decode(&mut Decoder::of_response(Framing::Chunked), endless.as_bytes(), 999);
    let at = 3 + TRAILER_BYTES_MAX as u64;
    assert_eq!(fault, Err(BodyFault { rule: TrailerTooLong, at }));
}

#[test]
fn lengths_and_closing_end_bodies() {
    let mut decoder = Decoder::new(Framing::Length(3));
    assert_eq!(decoder.step(b""), Ok(Step::More));
    assert_eq!(decoder.step(b"ab"), Ok(Step::Data(Span::new(0, 2))));
    assert!(!decoder.is_done());
    assert_eq!(decoder.step(b"cGET"), Ok(Step::Data(Span::new(0, 1))));
    assert!(decoder.is_done());
    assert_eq!(decoder.step(b"GET"), Ok(Step::End { used: 0 }));
    assert_eq!(Decoder::new(Framing::Empty).step(b"x"), Ok(Step::End { used: 0 }));
    let mut short = Decoder::new(Framing::Length(3));
    assert_eq!(short.step(b"ab"), Ok(Step::Data(Span::new(0, 2))));
    let fault = BodyFault { rule: BodyRule::Truncated, at: 2 };
    assert_eq!((short.at_close(), short.step(b"c")), (Err(fault), Err(fault)));
    let mut open = Decoder::new(Framing::UntilClose);
    assert_eq!(open.step(b"ab"), Ok(Step::Data(Span::new(0, 2))));
    assert!(!open.is_done());
    assert_eq!(open.at_close(), Ok(()));
    assert!(open.is_done());
}

#[test]
fn what_is_written_is_read() {
    let mut out = BytesMut::new();
    for size in [1usize, 15, 16, 4096, 70_000] {
        write_chunk_prefix(&mut out, size);
        out.put_bytes(b'x', size);
        out.put_slice(CHUNK_SUFFIX);
    }
    out.put_slice(CHUNKS_END);
    let read = decode(&mut Decoder::new(Framing::Chunked), &out, 1000).expect("good");
    assert_eq!((read.0.len(), read.1, read.2), (74_128, out.len(), true));
}

// Mutant: `take_chunks` that gives nothing.
#[test]
fn chunk_sizes_are_remembered_in_runs_within_a_bound() {
    let mut decoder = Decoder::of_response(Framing::Chunked);
    let mut take = |input: &[u8]| {
        let mut at = 0;
        while at < input.len() {
            match decoder.step(&input[at..]).unwrap() {
                Step::Data(span) => at += span.end(),
                Step::Skip(used) => at += used,
                Step::End { .. } | Step::More => break,
            }
        }
        decoder.take_chunks()
    };
    assert_eq!(take(b"2\r\nab\r\n2\r\ncd\r\n3\r\nx").runs, [(2, 2), (3, 1)]);
    assert!(take(b"yz\r\n").is_empty());
    let mut many = Vec::new();
    for index in 0..300 {
        many.extend_from_slice(if index % 2 == 0 { b"1\r\na\r\n" } else { b"2\r\nab\r\n" });
    }
    many.extend_from_slice(b"0\r\n\r\n");
    let chunks = take(&many);
    assert_eq!((chunks.runs.len(), chunks.more), (CHUNK_RUNS_MAX, 44));
}
