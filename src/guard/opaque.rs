//! Opaque content: what a client shows, plays or saves, and no rule can look into, because it is no text.
//!
//! | rule | names |
//! |---|---|
//! | `opaque:image` | `data` beside `"type": "image"` (MCP, ImageContent) |
//! | `opaque:audio` | `data` beside `"type": "audio"` (AudioContent) |
//! | `opaque:blob` | `blob` beside `uri` or `mimeType`, or inside `resource` or `contents` (BlobResourceContents) |
//! | `opaque:data-uri` | base64 of a `data:` URI ([`uri`]) in any string, of 16 letters or more |
//!
//! The shape counts, wherever in a message it stands: in results, arguments, sampling, notifications. Not
//! opaque is what comes out of base64 as UTF-8 text, or as gzip of it with no more than a short name in its header:
//! there the views look ([`super::views`]), whatever the media type says. What is no base64 is opaque: somebody may read it all the same.
//!
//! Not seen: content that is written as text inside a string, but for `data:` URIs; a text that is no base64 but
//! another coding of something else. Nothing is looked at where a caller's grants allow all of it.

mod uri;

use super::GuardFault;
use super::runs::{self, BASE64, Code, NONE};
use crate::limits::Limits;
use crate::types::{Finding, RuleAction, Span};
use crate::wire::json::{self, Text, Visitor};
use crate::wire::mcp::looks_like;

/// What a grant makes of opaque content, weakest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opaque {
    /// It passes, and nothing looks for it.
    #[default]
    Allow,
    /// It passes and is told.
    Alert,
    /// It does not pass.
    Block,
}

impl Opaque {
    /// The words of the configuration.
    pub const WORDS: &'static [(&'static str, Opaque)] =
        &[("allow", Opaque::Allow), ("alert", Opaque::Alert), ("block", Opaque::Block)];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        self.action().as_str()
    }

    /// The same as the action of a rule.
    pub(super) fn action(self) -> RuleAction {
        match self {
            Opaque::Allow => RuleAction::Allow,
            Opaque::Alert => RuleAction::Alert,
            Opaque::Block => RuleAction::Block,
        }
    }
}

/// What the ids of all rules here begin with; no id of a rule file holds a colon.
const PREFIX: &str = "opaque:";

/// Whether a finding is of opaque content.
pub(super) fn is_told_by(finding: &Finding) -> bool {
    finding.rule.starts_with(PREFIX)
}

/// Kinds of opaque content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Image,
    Audio,
    Blob,
    DataUri,
}

impl Kind {
    /// The id of its rule.
    pub(super) fn rule(self) -> &'static str {
        match self {
            Kind::Image => "opaque:image",
            Kind::Audio => "opaque:audio",
            Kind::Blob => "opaque:blob",
            Kind::DataUri => "opaque:data-uri",
        }
    }
}

/// The opaque content of `raw`, which is valid JSON: each string with it, between the quotes, in order.
/// `inflated_max` is how long the text of a gzip member may be; a longer one is opaque. All of it is walked: whatever a
/// short look asked for, names and codings can be spelled without.
///
/// # Errors
/// It cannot be read as JSON.
pub(super) fn find(
    raw: &[u8],
    inflated_max: u64,
    scratch: &mut json::Scratch,
    limits: &Limits,
) -> Result<Vec<(Kind, Span)>, GuardFault> {
    let mut walk = Walk { raw, inflated_max, frames: vec![], found: vec![] };
    // Why a fault: what was read strictly before reads again, or nobody can say what it holds.
    json::read(raw, limits, scratch, &mut walk).map_err(|_| GuardFault::Unreadable)?;
    let mut found = walk.found;
    found.sort_by_key(|(kind, span)| (span.start, *kind));
    found.dedup_by_key(|(_, span)| span.start);
    Ok(found)
}

/// What a member of an object may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Data,
    Blob,
    Type,
    /// `uri` and `mimeType`: resource contents have them.
    Names,
    /// `resource` and `contents`: what is inside are resource contents.
    Holds,
    Other,
}

impl Member {
    /// As any reader may take it.
    fn of(name: &str) -> Member {
        const WORDS: &[(&str, Member)] = &[
            ("data", Member::Data),
            ("blob", Member::Blob),
            ("type", Member::Type),
            ("uri", Member::Names),
            ("mimeType", Member::Names),
            ("resource", Member::Holds),
            ("contents", Member::Holds),
        ];
        let known = WORDS.iter().find(|(word, _)| looks_like(name, word));
        known.map_or(Member::Other, |(_, member)| *member)
    }
}

/// A container that is open.
struct Frame {
    object: bool,
    /// Its last member.
    member: Member,
    /// It is, or stands in, a member that holds resource contents.
    held: bool,
    named: bool,
    content: Option<Kind>,
    /// Usually one: names that look alike may stand beside each other.
    data: Vec<Text>,
    blobs: Vec<Text>,
}

struct Walk<'a> {
    raw: &'a [u8],
    inflated_max: u64,
    frames: Vec<Frame>,
    found: Vec<(Kind, Span)>,
}

impl Walk<'_> {
    fn judge(&mut self, kind: Kind, texts: &[Text]) {
        for text in texts {
            if !is_text(text.decode(self.raw).as_bytes(), self.inflated_max) {
                self.found.push((kind, text.span));
            }
        }
    }
}

impl Visitor for Walk<'_> {
    fn key(&mut self, _: u32, text: Text) {
        if let Some(frame) = self.frames.last_mut() {
            frame.member = Member::of(&text.decode(self.raw));
        }
    }

    fn string(&mut self, _: u32, text: Text) {
        if uri::holds(text.decode(self.raw).as_bytes(), self.inflated_max) {
            self.found.push((Kind::DataUri, text.span));
        }
        let Some(frame) = self.frames.last_mut().filter(|frame| frame.object) else { return };
        match frame.member {
            Member::Data => frame.data.push(text),
            Member::Blob => frame.blobs.push(text),
            Member::Type if text.is(self.raw, "image") => frame.content = Some(Kind::Image),
            Member::Type if text.is(self.raw, "audio") => frame.content = Some(Kind::Audio),
            Member::Names => frame.named = true,
            Member::Type | Member::Holds | Member::Other => {}
        }
    }

    fn open(&mut self, _: u32, object: bool, _: u32) {
        let held = self.frames.last().is_some_and(|outer| match outer.object {
            true => outer.member == Member::Holds,
            false => outer.held,
        });
        self.frames.push(Frame {
            object,
            member: Member::Other,
            held,
            named: false,
            content: None,
            data: vec![],
            blobs: vec![],
        });
    }

    fn close(&mut self, _: u32, _: bool, _: u32) {
        let Some(frame) = self.frames.pop() else { return };
        if let Some(kind) = frame.content {
            self.judge(kind, &frame.data);
        }
        if frame.named || frame.held {
            self.judge(Kind::Blob, &frame.blobs);
        }
    }
}

/// Letters that are decoded at once, whole groups: what is no text is seldom one so far.
const PIECE_LETTERS: usize = 4096;

/// Whether `coded` is base64 of a text that the views look into, or of nothing.
fn is_text(coded: &[u8], inflated_max: u64) -> bool {
    let coded = coded.trim_ascii();
    let padding = coded.iter().rev().take_while(|&&byte| byte == b'=').count();
    let coded = &coded[..coded.len() - padding];
    if let Some(inflated) = runs::inflated(coded, inflated_max) {
        let read = inflated.and_then(|text| Reading::default().take(&text));
        return read.is_some_and(|reading| reading.is_whole());
    }
    let mut reading = Reading::default();
    let (mut piece, mut bytes) = (Vec::with_capacity(PIECE_LETTERS), [0; PIECE_LETTERS]);
    let mut letters = 0;
    let mut rest = coded.iter();
    loop {
        piece.clear();
        while piece.len() < PIECE_LETTERS
            && let Some(&byte) = rest.next()
        {
            match byte {
                _ if BASE64[byte as usize] != NONE => piece.push(byte),
                _ if runs::is_blank(byte) => {}
                _ => return false,
            }
        }
        if piece.is_empty() {
            break;
        }
        letters += piece.len();
        let length = runs::decode(&piece, Code::Base64, &mut bytes);
        match reading.take(&bytes[..length]) {
            Some(going_on) => reading = going_on,
            None => return false,
        }
    }
    // RFC 4648 §4: a letter alone is no byte, and padding fills the last group. Who writes the other
    // alphabet (§5) does without.
    let decodes = letters % 4 != 1 && (padding == 0 || (letters + padding).is_multiple_of(4));
    decodes && reading.is_whole()
}

/// A text that is read piece by piece: the bytes of a character that has begun.
#[derive(Debug, Default)]
struct Reading {
    begun: Vec<u8>,
}

impl Reading {
    /// `None` where the text is none: not UTF-8, or with a byte that texts do not have.
    fn take(mut self, piece: &[u8]) -> Option<Reading> {
        let mut rest = piece;
        while !self.begun.is_empty() {
            let Some((&byte, behind)) = rest.split_first() else { return Some(self) };
            self.begun.push(byte);
            rest = behind;
            match std::str::from_utf8(&self.begun) {
                Ok(_) => self.begun.clear(),
                Err(fault) if fault.error_len().is_some() => return None,
                Err(_) => {}
            }
        }
        if rest.iter().any(|&byte| is_binary(byte)) {
            return None;
        }
        if let Err(fault) = std::str::from_utf8(rest) {
            if fault.error_len().is_some() {
                return None;
            }
            self.begun.extend_from_slice(&rest[fault.valid_up_to()..]);
        }
        Some(self)
    }

    fn is_whole(&self) -> bool {
        self.begun.is_empty()
    }
}

/// WHATWG MIME Sniffing §3, "binary data byte".
fn is_binary(byte: u8) -> bool {
    matches!(byte, 0x00..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::io::Write as _;

    use super::*;

    /// The first bytes of a picture.
    const PNG: &[u8] =
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89";

    fn find_in(raw: &[u8]) -> Vec<(&'static str, String)> {
        let limits = Limits::default();
        let mut scratch = json::Scratch::new();
        json::read(raw, &limits, &mut scratch, &mut json::Unwatched).expect("valid");
        let found = find(raw, 1 << 20, &mut scratch, &limits).expect("valid");
        let text = |span: Span| String::from_utf8(span.of(raw).to_vec()).expect("UTF-8");
        found.into_iter().map(|(kind, span)| (kind.rule(), text(span))).collect()
    }

    fn rules(value: &Value) -> Vec<&'static str> {
        find_in(value.to_string().as_bytes()).into_iter().map(|(rule, _)| rule).collect()
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut coder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        coder.write_all(text).expect("memory");
        coder.finish().expect("memory")
    }

    // Mutants: audio is not asked for; what is no base64 counts as text; `held` is never set; of members that look
    // alike the first counts, or the last.
    #[test]
    fn what_no_rule_can_look_into_is_told_by_its_shape() {
        let png = STANDARD.encode(PNG);
        for (value, expected) in [
            (json!({ "type": "image", "data": png, "mimeType": "image/png" }), "opaque:image"),
            (json!({ "data": png, "type": "image" }), "opaque:image"),
            (json!({ "type": "audio", "data": png }), "opaque:audio"),
            (json!({ "type": "image", "data": URL_SAFE_NO_PAD.encode(PNG) }), "opaque:image"),
            (json!({ "type": "image", "data": "no base64 at all!" }), "opaque:image"),
            (json!({ "type": "image", "data": "QUJDR" }), "opaque:image"),
            (json!({ "type": "image", "data": "QUJDREU==" }), "opaque:image"),
            (json!({ "type": "image", "data": "QUJ=REVG" }), "opaque:image"),
            (json!({ "type": "image", "Data": png }), "opaque:image"),
            (json!({ "type": "image", "Data": png, "data": "QUJD" }), "opaque:image"),
            (json!({ "type": "image", "Data": "QUJD", "data": png }), "opaque:image"),
            (json!({ "uri": "a:b", "Blob": png, "blob": "QUJD" }), "opaque:blob"),
            (json!({ "uri": "a:b", "Blob": "QUJD", "blob": png }), "opaque:blob"),
            (json!({ "Type": "audio", "DATA": png }), "opaque:audio"),
            (json!({ "uri": "a:b", "blob": png }), "opaque:blob"),
            (json!({ "blob": png, "mimeType": "text/plain" }), "opaque:blob"),
            (json!({ "blob": png, "mime_type": "text/plain" }), "opaque:blob"),
            (json!({ "contents": [{ "blob": png }] }), "opaque:blob"),
            (json!({ "type": "resource", "resource": { "bLob": png } }), "opaque:blob"),
            (
                json!({ "text": format!("see ![x](data:image/png;base64,{png})") }),
                "opaque:data-uri",
            ),
            (json!([format!("DATA:;a=b; BASE64,{png}")]), "opaque:data-uri"),
            (
                json!({ "text": format!("64, data:;a=64,;base64,AAAA data:x;base64,{png}") }),
                "opaque:data-uri",
            ),
            (
                json!({ "params": { "arguments": { "pic": { "type": "image", "data": png } } } }),
                "opaque:image",
            ),
        ] {
            assert_eq!(rules(&value), [expected], "{value}");
        }
    }

    // Mutants: a URI needs no scheme, or no `;` before `base64`; blanks around the letters are looked at.
    #[test]
    fn text_is_not_opaque_whatever_its_media_type_says() {
        let png = STANDARD.encode(PNG);
        let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\"><text>\u{e9}\u{1f600}</text></svg>";
        let long = "Ein langer Text \u{1f600} \u{df}. ".repeat(1000);
        for text in [svg, "{\"a\":1}", "", "\x1b[1m\x0c", &long] {
            for coded in [
                STANDARD.encode(text),
                URL_SAFE_NO_PAD.encode(text),
                STANDARD.encode(gzip(text.as_bytes())),
                STANDARD.encode([gzip(text.as_bytes()), gzip(b"more")].concat()),
            ] {
                let folded: Vec<&[u8]> = coded.as_bytes().chunks(76).collect();
                let folded = String::from_utf8(folded.join(&b"\r\n"[..])).expect("ASCII");
                for coded in [&coded, &folded, &format!("\t{coded}\n")] {
                    let none: [&str; 0] = [];
                    assert_eq!(rules(&json!({ "type": "image", "data": coded })), none, "{text}");
                    assert_eq!(rules(&json!({ "uri": "a:b", "blob": coded })), none, "{text}");
                }
                assert!(rules(&json!([format!("data:image/svg+xml;base64,{coded}")])).is_empty());
            }
        }
        for value in [
            json!({ "type": "text", "data": png }),
            json!({ "data": png }),
            json!({ "type": "image", "data": { "type": "text" } }),
            json!({ "type": "image", "more": { "data": png } }),
            json!([{ "type": "image" }, { "data": png }]),
            // A digest in a version control system is called so.
            json!({ "blob": "3f786850e387550fdab836ed7e6dc881de23001b" }),
            json!({ "contents": {}, "blob": png }),
            json!(["write data:image/png;base64,iVBORw0... here", "base64,", "data:;base64,"]),
            json!({ "text": format!("base64,{png}") }),
            json!({ "text": format!("image/png;base64,{png}") }),
            json!({ "text": format!("data: base64,{png} and xbase64,{png}") }),
        ] {
            assert!(rules(&value).is_empty(), "{value}");
        }
    }

    // WHATWG MIME Sniffing §3. Mutants: 0x00, 0x0b or 0x1f is no binary data byte; 0x1b is one.
    #[test]
    fn a_byte_that_texts_do_not_have_makes_it_opaque() {
        for byte in 0..=0x7f {
            let text = [b"some text", &[byte][..], b"goes on"].concat();
            let has = matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | 0x1b | b' '..);
            for bytes in [gzip(&text), text] {
                let found = rules(&json!({ "type": "image", "data": STANDARD.encode(bytes) }));
                assert_eq!(found.is_empty(), has, "{byte:#x}");
            }
        }
    }

    // Mutants: a member need not be whole, or be all of it; a text in it may end within a character; its length has
    // no bound.
    #[test]
    fn what_breaks_off_or_is_too_long_is_no_gzip() {
        let whole = gzip("a text of some length, repeated ".repeat(100).as_bytes());
        let coded = |bytes: &[u8]| json!({ "type": "image", "data": STANDARD.encode(bytes) });
        assert!(rules(&coded(&whole)).is_empty());
        assert_eq!(rules(&coded(&whole[..whole.len() - 1])), ["opaque:image"]);
        assert_eq!(rules(&coded(&[&whole[..], b"more"].concat())), ["opaque:image"]);
        assert_eq!(rules(&coded(&gzip(PNG))), ["opaque:image"]);
        assert_eq!(rules(&coded(&gzip(b"caf\xc3"))), ["opaque:image"]);
        assert_eq!(rules(&coded(&gzip(&vec![b' '; (1 << 20) + 1]))), ["opaque:image"]);
    }

    #[test]
    fn escapes_hide_no_name_no_word_and_no_letter() {
        let png = STANDARD.encode(PNG);
        for (raw, expected) in [
            (format!(r#"{{"type":"im\u0061ge","d\u0061ta":"{png}"}}"#), "opaque:image"),
            (format!(r#"{{"typ\u0065":"audio","data":"{png}"}}"#), "opaque:audio"),
            (format!(r#"{{"type":"image","data":"\u0069{}"}}"#, &png[1..]), "opaque:image"),
            (format!(r#"{{"uri":"","blo\u0062":"{png}"}}"#), "opaque:blob"),
            (format!(r#"["data:image\/png;base64\u002c{png}"]"#), "opaque:data-uri"),
        ] {
            let found = find_in(raw.as_bytes());
            assert_eq!(
                found.iter().map(|(rule, _)| *rule).collect::<Vec<_>>(),
                [expected],
                "{raw}"
            );
        }
        let slashes = STANDARD.encode([&[0xff; 30], PNG].concat()).replace('/', "\\/");
        let raw = format!(r#"{{"type":"image","data":"{slashes}"}}"#);
        assert_eq!(find_in(raw.as_bytes()), [("opaque:image", slashes)]);
    }

    // What `fetch` of a browser and of Node gives the bytes of, and what HTML makes of such. Mutants: no blank before
    // the comma, or before `base64`; a tab, a return or a line feed stays; only texts with `64,`, or with `base64`, are
    // looked at; only what all decoding leaves, or all but that; one level is taken off; a letter that is
    // percent-encoded, or a blank among letters, ends them; no parameter behind `base64`.
    #[test]
    fn data_uris_are_seen_however_they_are_spelled() {
        let png = STANDARD.encode(PNG);
        let lines: Vec<&[u8]> = png.as_bytes().chunks(12).collect();
        let lines = |end: &[u8]| String::from_utf8(lines.join(end)).expect("ASCII");
        let rest = &png[1..];
        let json = json!({ "src": format!("data:image/png;base64,{png}") }).to_string();
        for text in [
            format!("data:image/png;base64 ,{png}"),
            format!("data:image/png;base64, {png}"),
            format!("data:image/png;base64,\n{png}"),
            format!("data:image/png;base64,\u{c}{png}"),
            format!("data:image/png;base64,%69{rest}"),
            format!("data:image/png;base64,%20%0A%69{rest}"),
            format!("data:image/png;base64,%6\n9{rest}"),
            format!("data:image/png;base6\n4,{png}"),
            format!("data:image/png;\tba\rse64,{png}"),
            format!("data:image/png;bas\te64,{png}"),
            format!("da\tta:image/png;base64,{png}"),
            format!("da\nta:image/png;base64,{png}"),
            format!("data\r\n:image/png; base64\t ,{png}"),
            format!("data:image/png;base64;charset=utf-8,{png}"),
            format!("data:image/png;base64,{}", lines(b"\n")),
            format!("data:image/png;base64,{}", lines(b" ")),
            format!("data:image/png;base64,{}", lines(b"%0d%0a")),
            format!("<img src=\"data:image/png;base64&#44;{png}\">"),
            format!("<img src=\"data&colon;image/png;base6&#x34,&#105;{rest}\">"),
            format!("&lt;img src=data:image/png;base64&amp;#44;{png}&gt;"),
            // An escape to one reader, and four letters to another.
            format!("data:image/png;a=&#44;base64,{png}"),
            format!("%data:image/png;base64,{png}"),
            json.replace(',', "\\u002c"),
            json!([json.replace(',', "&comma;")]).to_string(),
        ] {
            let value = json!({ "icons": [{ "src": text }] });
            assert_eq!(rules(&value), ["opaque:data-uri"], "{value}");
            let value = json!({ "params": { "arguments": { "text": format!("see {text}") } } });
            assert_eq!(rules(&value), ["opaque:data-uri"], "{value}");
        }
        let svg = STANDARD.encode("<svg>a drawing with a title</svg>").replace('=', "");
        let folded = svg.replace('Z', "\nZ ").replace('d', "%64");
        let text = format!("data:image/svg+xml; base64 ,{folded}, and {svg}");
        assert!(rules(&json!([text])).is_empty());
    }

    // Mutants: 17 letters are needed; 15 are enough; a letter too many is looked at.
    #[test]
    fn a_data_uri_needs_some_letters_and_may_break_off_anywhere() {
        let png = STANDARD.encode(PNG);
        let uri = |letters: &str| rules(&json!([format!("data:;base64,{letters}")]));
        assert_eq!(uri(&png[..16]), ["opaque:data-uri"]);
        assert!(uri(&png[..15]).is_empty());
        let text = STANDARD.encode("a text of 24 bytes, so..");
        for letters in 16..=text.len() {
            assert!(uri(&text[..letters]).is_empty(), "{letters}");
        }
    }

    // Mutants: no `holds_bytes`; the first URI only; a head without a type.
    #[test]
    fn data_uris_are_seen_without_base64() {
        let percent = |bytes: &[u8], all: bool| {
            let one = |byte: &u8| match byte {
                b'a'..=b'z' | b'A'..=b'Z' if !all => char::from(*byte).to_string(),
                _ => format!("%{byte:02X}"),
            };
            bytes.iter().map(one).collect::<String>()
        };
        let png = percent(PNG, false);
        let svg = percent("<svg><text>ein Titel \u{e9}\u{1f600}</text></svg>".as_bytes(), true);
        let latin = percent(b"<p>\xfcber \xe4lteres Papier</p>", false);
        for text in [
            format!("data:image/png,{png}"),
            format!("data:image/png,{}", percent(PNG, true)),
            format!("data:image/png,{}", percent(&PNG[..12], true)),
            format!("DATA: Image/PNG ;a=\"b\" ,{png}"),
            format!("data:application/octet-stream,{png}"),
            format!("data:text/plain,{png}"),
            format!("da\nta:image/png,{}", png.replace('P', "\tP")),
            format!("<img src=\"data:image/png,{png}\">"),
            format!("<img src='data:image&sol;png&comma;{}'>", png.replace('%', "&percnt;")),
            format!("data:,a data:image/svg+xml,{svg} data:image/png,{png}"),
            format!("data:image/jpeg,{}", percent(b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01", false)),
        ] {
            assert_eq!(rules(&json!({ "text": text })), ["opaque:data-uri"], "{text}");
        }
        for text in [
            format!("data:image/svg+xml,{svg}"),
            format!("data:image/svg+xml;charset=utf-8,<svg xmlns='x'>%3C/svg> {png}"),
            format!("data:text/html;charset=iso-8859-1,{latin}"),
            format!("data:image/svg+xml,{svg} and https://example.com/?q=%FCber%FCber%FCber"),
            format!("data: value,{png}"),
            format!("the data: a/b: c, {png}"),
            "data: %02d/%02d, at %02d:%02d:%02d of the day".to_owned(),
            format!("data:image/png,{}", percent(&PNG[..11], true)),
        ] {
            let none: [&str; 0] = [];
            assert_eq!(rules(&json!({ "text": text })), none, "{text}");
        }
    }

    // Mutants: headers are not looked at, or only the first, or the last; one of the fields is not; neither their
    // length is, nor whether they are text; 63 bytes are too many.
    #[test]
    fn headers_of_gzip_hide_nothing() {
        let text = b"a text that is long enough to be looked into";
        let with = |set: fn(flate2::GzBuilder, Vec<u8>) -> flate2::GzBuilder, field: &[u8]| {
            let builder = set(flate2::GzBuilder::new(), field.to_vec());
            let mut coder = builder.write(vec![], flate2::Compression::fast());
            coder.write_all(text).expect("memory");
            coder.finish().expect("memory")
        };
        let picture = |member: &[u8]| json!({ "type": "image", "data": STANDARD.encode(member) });
        let fields: [fn(flate2::GzBuilder, Vec<u8>) -> flate2::GzBuilder; 3] = [
            |builder, field| builder.extra(field),
            |builder, field| builder.filename(field),
            |builder, field| builder.comment(field),
        ];
        for set in fields {
            for field in [&b"notes-of-monday.txt"[..], &[b'a'; 64]] {
                assert!(rules(&picture(&with(set, field))).is_empty());
            }
            for field in [&[b'a'; 65][..], b"\x89PNG\r\n\x1a\n", &[b'a'; 6000]] {
                let hiding = with(set, field);
                assert_eq!(rules(&picture(&hiding)), ["opaque:image"]);
                for both in [[gzip(text), hiding.clone()], [hiding, gzip(text)]] {
                    assert_eq!(rules(&picture(&both.concat())), ["opaque:image"]);
                }
            }
        }
        assert_eq!(rules(&picture(&[gzip(text), vec![0; 9]].concat())), ["opaque:image"]);
        assert_eq!(rules(&picture(&[gzip(text), PNG.to_vec()].concat())), ["opaque:image"]);
    }

    #[test]
    fn many_marks_take_no_longer_than_their_letters() {
        for (front, part) in [
            ("", ";base64,"),
            ("data:", ";base64,"),
            ("data:", ";base64;"),
            ("data:", "base64 "),
            ("data:", ";base64,QUJD "),
            ("data:", "&amp;#x26;"),
            ("", "data:a/b"),
            ("", "data:a/b,data:"),
            ("", "data:a/b,c "),
        ] {
            let text = format!("{front}{}", part.repeat((1 << 20) / part.len()));
            let begun = std::time::Instant::now();
            assert!(!uri::holds(text.as_bytes(), 1 << 20), "{front}{part}");
            assert!(begun.elapsed() < std::time::Duration::from_secs(4), "{front}{part}");
        }
    }

    // Mutants: only messages that hold a name as it is written are walked; names are compared as they are, or but for
    // case.
    #[test]
    fn look_alikes_of_names_are_walked_to() {
        let png = STANDARD.encode(PNG);
        for (value, expected) in [
            (json!({ "uri": "x:y", "bl\u{7f}ob": png }), "opaque:blob"),
            (json!({ "uri": "x:y", "blob_": png }), "opaque:blob"),
            (json!({ "type": "image", "da_ta": png }), "opaque:image"),
        ] {
            assert_eq!(rules(&value), [expected], "{value}");
            assert_eq!(find_in(value.to_string().as_bytes()), [(expected, png.clone())]);
        }
    }

    // Mutant: what cannot be read has no findings.
    #[test]
    fn what_cannot_be_read_is_a_fault_and_not_without_findings() {
        let mut scratch = json::Scratch::new();
        let found = find(b"{\"data\":", 1 << 20, &mut scratch, &Limits::default());
        assert_eq!(found, Err(GuardFault::Unreadable));
    }

    // Mutants: in the order in which containers end; twice where two rules name it.
    #[test]
    fn each_is_told_once_in_order_with_its_place() {
        let png = STANDARD.encode(PNG);
        let raw = format!(
            r#"{{"result":{{"contents":[{{"blob":"{png}","uri":"data:image/png;base64,{png}"}}],
            "content":[{{"data":"{png}","type":"audio"}},{{"type":"image","data":"data:image/png;base64,{png}"}}]}}}}"#
        );
        let uri = format!("data:image/png;base64,{png}");
        assert_eq!(
            find_in(raw.as_bytes()),
            [
                ("opaque:blob", png.clone()),
                ("opaque:data-uri", uri.clone()),
                ("opaque:audio", png),
                ("opaque:image", uri)
            ]
        );
    }

    proptest! {
        // Mutant: a character that has begun is forgotten between pieces.
        #[test]
        fn what_is_text_is_what_a_reader_of_the_whole_says(
            front in "[a-z\u{e9}\u{1f600}]{0,7}", tail in "[a-z\u{e9}\u{20ac}\u{1f600}]{0,5000}", bytes in proptest::collection::vec(any::<u8>(), 0..6),
        ) {
            for whole in [format!("{front}{tail}").into_bytes(), [front.as_bytes(), tail.as_bytes(), &bytes].concat()] {
                let text = std::str::from_utf8(&whole).is_ok_and(|text| !text.bytes().any(is_binary));
                prop_assert_eq!(is_text(STANDARD.encode(&whole).as_bytes(), 0), text);
                prop_assert_eq!(is_text(URL_SAFE_NO_PAD.encode(&whole).as_bytes(), 0), text);
            }
        }

        #[test]
        fn no_spelling_of_a_name_is_passed_over(parts in proptest::collection::vec((0..11usize, any::<bool>()), 1..4)) {
            let png = STANDARD.encode(PNG);
            let keys = ["data", "Data", "d\\u0061ta", "DATA", "blob", "blo\\u0062", "BLOB", "bl\u{7f}ob", "blob_", "da_ta", "text"];
            let raw: Vec<String> = parts.iter().map(|(key, uri)| {
                let value = if *uri { format!("data:a/b;baSe64,{png}") } else { png.clone() };
                format!(r#"{{"type":"image","uri":"","{}":"{value}"}}"#, keys[*key])
            }).collect();
            let raw = format!("[{}]", raw.join(","));
            let expected = parts.iter().filter(|(key, uri)| *key < 10 || *uri).count();
            prop_assert_eq!(find_in(raw.as_bytes()).len(), expected);
        }
    }
}
