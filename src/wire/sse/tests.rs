//! Tests of event streams: lines, fields, bounds, canonical form.

use super::*;

/// Items and the fault that ended them, reading pieces of `size` bytes.
fn read(input: &[u8], size: usize, limits: &Limits) -> (Vec<Item>, Option<SseFault>, usize) {
    let mut reader = Reader::new();
    let mut items = Vec::new();
    for piece in input.chunks(size) {
        let mut at = 0;
        loop {
            match reader.read(&piece[at..], limits) {
                Ok((used, Some(item))) => {
                    at += used;
                    items.push(item);
                }
                Ok((used, None)) => {
                    assert_eq!(at + used, piece.len(), "without an item all is consumed");
                    break;
                }
                Err(fault) => {
                    assert_eq!(reader.read(b"data: x\n\n", limits), Err(fault), "faults are final");
                    return (items, Some(fault), reader.unterminated_bytes());
                }
            }
        }
    }
    (items, None, reader.unterminated_bytes())
}

fn all_cuts(input: &[u8], limits: &Limits) -> (Vec<Item>, Option<SseFault>) {
    let (items, fault, left) = read(input, input.len().max(1), limits);
    for size in 1..input.len() {
        let cut = read(input, size, limits);
        assert_eq!((&cut.0, cut.1), (&items, fault), "pieces of {size}");
        assert!(fault.is_some() || cut.2 == left, "pieces of {size}");
    }
    (items, fault)
}

fn events(input: &str) -> Vec<Item> {
    let (items, fault) = all_cuts(input.as_bytes(), &Limits::default());
    assert_eq!(fault, None);
    items
}

fn data(text: &str) -> Item {
    Item::Event(Event { data: Some(BytesMut::from(text)), ..Event::default() })
}

// Checked against the mutants: `after_cr` not kept between reads; no byte order mark dropped; the
// space after the colon kept.
#[test]
fn lines_end_in_three_ways_and_no_other() {
    for text in [
        "data: a\ndata:b\n\ndata\n\n",
        "data: a\rdata:b\r\rdata\r\r",
        "data: a\r\ndata:b\r\n\r\ndata\r\n\r\n",
        "\u{feff}data: a\rdata:b\r\n\rdata\n\n",
    ] {
        assert_eq!(events(text), [data("a\nb"), data("")], "{text:?}");
    }
    assert_eq!(events("data: a\u{85}b\u{2028}c\u{b}d\n\n"), [data("a\u{85}b\u{2028}c\u{b}d")]);
    assert_eq!(events("\u{feff}\u{feff}data: x\n\n"), [], "only one mark is dropped");
}

#[test]
fn a_lone_cr_ends_an_event_at_once() {
    let mut reader = Reader::new();
    let limits = Limits::default();
    assert_eq!(reader.read(b"data: a\r\r", &limits), Ok((9, Some(data("a")))));
    assert_eq!(reader.read(b"\ndata: b\n\n", &limits), Ok((10, Some(data("b")))));
    assert_eq!(reader.read(b"data: c\r\n\r\nd", &limits), Ok((11, Some(data("c")))));
}

#[test]
fn fields_mean_what_the_standard_says() {
    let text =
        "id: 1\nevent: e\nretry: 0100\nretry: x\nretry:\ndata:  two\ndata\nfoo: bar\nData: no\n\n";
    let event = Event {
        name: Some(b"e".to_vec()),
        id: Some(b"1".to_vec()),
        retry_ms: Some(100),
        data: Some(BytesMut::from(" two\n")),
    };
    assert_eq!(events(text), [Item::Event(event)]);
    let bare = Event { id: Some(vec![]), ..Event::default() };
    assert_eq!(events("id\n\nevent:\n\n\n\n"), [Item::Event(bare)]);
    let late = Event { retry_ms: Some(u64::MAX), ..Event::default() };
    assert_eq!(events("retry: 99999999999999999999999\n\n"), [Item::Event(late)]);
    assert_eq!(
        events(": ping\n\ndata: a\n:x\ndata: b\n\n"),
        [Item::Comment, Item::Comment, data("a\nb")]
    );
}

#[test]
fn what_the_stream_does_not_end_is_not_delivered_but_counted() {
    let (items, fault, left) = read(b"data: a\n\ndata: b\nid: 1", 100, &Limits::default());
    assert_eq!((items, fault, left), (vec![data("a")], None, 13));
}

#[test]
fn what_hides_or_breaks_out_is_refused() {
    use SseRule::*;
    for (text, rule, at) in [
        (&b"data: a\xffb\n\n"[..], NotUtf8, 7),
        (b"data: a\n\nx\xff: b\n\n", NotUtf8, 10),
        (b"data: \xe2\x82\n\n", NotUtf8, 6),
        (b"\xef\xbbdata: a\n\n", NotUtf8, 0),
        (b"data: a\nid: 1\0\n\n", IdText, 8),
        (b"id: \x1b[0m\n\n", IdText, 0),
        (b"id: \xc2\x85\n\n", IdText, 0),
        (b"event: a\x08\n\n", NameText, 0),
        (b"event: a\tb\n\n", NameText, 0),
        (b"event: a\x7f\n\n", NameText, 0),
        (b"data: a\nevent: x\xe2\x80\xa8data: b\n\n", NameText, 8),
        (b"event: x\xe2\x80\xa9\n\n", NameText, 0),
        (b"event: x\xc2\x85\n\n", NameText, 0),
        (b"event: \xc3\xa9\n\n", NameText, 0),
    ] {
        let (_, fault) = all_cuts(text, &Limits::default());
        assert_eq!(fault, Some(SseFault { rule, at }), "{text:?}");
    }
}

// Checked against the mutants: `room` off by one; data lines bounded one by one; comments counted.
#[test]
fn bounds_hold_at_the_bound_and_not_beyond() {
    let limits = Limits { event_bytes_max: 1024, event_id_bytes_max: 64, ..Limits::default() };
    let judge = |text: &str| all_cuts(text.as_bytes(), &limits).1.map(|fault| fault.rule);
    assert_eq!(judge(&format!("data: {}\n\n", "x".repeat(1024))), None);
    assert_eq!(judge(&format!("data: {}\n\n", "x".repeat(1025))), Some(SseRule::EventTooLong));
    assert_eq!(judge(&format!("{}\n", "data: x\n".repeat(512))), Some(SseRule::BlockTooLong));
    let half = "x".repeat(511);
    assert_eq!(judge(&format!("data: {half}\ndata:x{half}\n\n")), None);
    assert_eq!(judge(&format!("data: {half}x\ndata:x{half}\n\n")), Some(SseRule::EventTooLong));
    assert_eq!(judge(&format!("id: {}\n", "i".repeat(64))), None);
    assert_eq!(judge(&format!("id: {}\n", "i".repeat(65))), Some(SseRule::IdTooLong));
    assert_eq!(judge(&format!("event: {}\n", "i".repeat(65))), Some(SseRule::NameTooLong));
    assert_eq!(judge(&": comment\n".repeat(1000)), None, "comments fill nothing");
    let most = block_bytes_max(&limits) as usize;
    assert_eq!(judge(&"x".repeat(most)), None);
    let endless = all_cuts(&vec![b'x'; most + 1], &limits).1;
    assert_eq!(endless, Some(SseFault { rule: SseRule::BlockTooLong, at: most as u64 }));
}

#[test]
fn what_is_written_is_read() {
    let mut out = BytesMut::new();
    write_event_prefix(&mut out, Some(b"message"), Some(b"7"), Some(15));
    out.extend_from_slice(b"{}");
    out.extend_from_slice(EVENT_SUFFIX);
    assert_eq!(&out[..], b"event: message\nid: 7\nretry: 15\ndata: {}\n\n");
    out.extend_from_slice(COMMENT);
    write_event(&mut out, None, None, None, Some(b"a\n\nb"));
    write_event(&mut out, None, Some(b"8"), None, None);
    let (items, fault, left) = read(&out, 7, &Limits::default());
    assert_eq!((fault, left), (None, 0));
    let first = Event {
        name: Some(b"message".to_vec()),
        id: Some(b"7".to_vec()),
        retry_ms: Some(15),
        data: Some(BytesMut::from("{}")),
    };
    let last = Event { id: Some(b"8".to_vec()), ..Event::default() };
    assert_eq!(items, [Item::Event(first), Item::Comment, data("a\n\nb"), Item::Event(last)]);
    let mut json = *b"{\r\n \"a\": 1\n}";
    assert!(join_lines(&mut json));
    assert_eq!(&json, b"{   \"a\": 1 }");
    assert!(!join_lines(&mut json));
}

#[test]
fn what_ends_a_line_for_some_readers_is_escaped_and_says_the_same() {
    assert_eq!(escape_line_ends(b"{\"a\":\"\\u2028 \xc3\xa9 \xe2\x80\xa6 \xc2\xa0\"}"), None);
    let json = "{\"\u{2028}a\":[\"\u{85}\u{2029}\",\"x\u{2028}\"]}";
    let escaped = escape_line_ends(json.as_bytes()).unwrap();
    assert_eq!(&escaped[..], b"{\"\\u2028a\":[\"\\u0085\\u2029\",\"x\\u2028\"]}");
    let value = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
    assert_eq!(value(&escaped), value(json.as_bytes()));
}
