//! What stands between the name of a value and the value, in the forms that settings are written in.
//!
//! A pattern says `(?&to)` or `(?&pair)` for it, so that every rule that knows a value by its name knows it in the same
//! places. Does not read the name nor the value: these are the rule's.

/// Between the two where the value is told from other texts by its form: also in prose (`set X to v`), in a table
/// (`| X | v |`), a tag (`<entry key="X">v`), behind a blank (`ENV X v`), a type (`X: string = "v"`). Not a line end by
/// itself: the next line of a log begins with the hash of another commit.
const TO: &str = r#"["'`*)\]\\]{0,4}(?:\s{0,3}(?:=>|[:?]=|->|\|\|=?|[:=,|>]|:\s?&?[A-Za-z]{3,6}\s?=)\*{0,2}\s{0,3}|\s(?:to|is|as)\s|:?[ \t]{1,40}|:\s[>|]-?\r?\n\s{1,24}|[ \t]{0,40}(?:\||\xe2\x94[\x82\x83])[ \t]{0,40}|</[a-z]{1,8}>\s{0,8}<[a-z]{1,8}>)"#;

/// Between the two where name and value are members of their own: `"name": "X", "value": "v"`, `"X": {"value": "v"`,
/// two lines of YAML or two attributes (`key="X" value="v"`), `variable "X" { default = "v" }`. Bounds: a member or
/// two between them, a description.
const PAIR: &str = r#"["'\\]{1,3}\s{0,3}(?:,|:\s{0,3}\{)[^{}\[\]]{0,40}?["'\\](?i:value)["'\\]{1,3}\s{0,3}:\s{0,3}|(?:["'\\]{0,3}\r?\n\s{1,24}|["'\\]{1,3}\s{1,3})(?:[a-z_]{1,12}_)?(?i:value)["'\\]{0,3}\s{0,3}[:=]\s{0,3}|["'\\]{1,3}\s{0,3}\{[^{}]{0,120}?default\s{0,8}=\s{0,3}"#;

/// `pattern` with what it says for these written out. The quotes before a value belong to `(?&to)`; behind `(?&pair)`
/// the rule says whether there are any.
pub(super) fn written_out(pattern: &str) -> String {
    let to = format!(r#"(?:{TO}|{PAIR})["'`*(\[\\]{{0,3}}"#);
    pattern.replace("(?&to)", &to).replace("(?&pair)", &format!("(?:{PAIR})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::compile::{expression, parse};

    // Mutants: a line end is a blank; the table without `|`; YAML without `\n\s{1,24}`; a list may stand between the members.
    #[test]
    fn a_value_is_known_by_its_name_however_both_are_written() {
        let pattern = written_out("(?i:acme_?token)(?&to)(s3cr3t)");
        let regex = expression(&parse(&pattern).unwrap(), true).unwrap();
        for text in [
            "ACME_TOKEN=s3cr3t",
            "acmeToken := \"s3cr3t\"",
            "os.environ[\"ACME_TOKEN\"] = \"s3cr3t\"",
            "$c['ACME_TOKEN'] = 's3cr3t';",
            "'acme_token' => 's3cr3t'",
            "const acmeToken: string = `s3cr3t`",
            "os.Setenv(\"ACME_TOKEN\", \"s3cr3t\")",
            "<entry key=\"ACME_TOKEN\">s3cr3t</entry>",
            "<add key=\"ACME_TOKEN\" value=\"s3cr3t\"/>",
            "<td>ACME_TOKEN</td>\n<td>s3cr3t</td>",
            "ENV ACME_TOKEN s3cr3t",
            "{\"ACME_TOKEN\": [\"s3cr3t\"]}",
            "ACME_TOKEN: >-\n      s3cr3t",
            "ACME_TOKEN:             s3cr3t",
            "ACME_TOKEN ?= s3cr3t",
            "process.env.ACME_TOKEN || 's3cr3t'",
            "ACME_TOKEN             s3cr3t",
            "acme_token             | s3cr3t",
            "\u{2502} ACME_TOKEN   \u{2502} s3cr3t \u{2502}",
            "| ACME_TOKEN | `s3cr3t` |",
            "**ACME_TOKEN:** s3cr3t",
            "set ACME_TOKEN to s3cr3t",
            "- name: ACME_TOKEN\n  value: s3cr3t",
            "- name: ACME_TOKEN\n          value: \"s3cr3t\"",
            "{\"name\":\"ACME_TOKEN\",\"value\":\"s3cr3t\"}",
            "{\"Name\": \"ACME_TOKEN\", \"Type\": \"String\",\n \"Value\": \"s3cr3t\"}",
            "{\"ACME_TOKEN\": {\"value\": \"s3cr3t\"}}",
            "variable \"acme_token\" {\n  type = string\n  default = \"s3cr3t\"\n}",
            "secret_name = \"ACME_TOKEN\"\n  plaintext_value = \"s3cr3t\"",
        ] {
            assert!(regex.is_match(text), "{text}");
        }
        for text in [
            "ACME_TOKEN and s3cr3t",
            "new acme_token\ns3cr3t fix",
            "new acme_token\r\n  s3cr3t",
            "{\"names\":[\"ACME_TOKEN\"],\"value\":\"s3cr3t\"}",
            "{\"names\":[\"ACME_TOKEN\",\"x\"],\"value\":\"s3cr3t\"}",
            "{\"name\":\"ACME_TOKEN\"},{\"value\":\"s3cr3t\"}",
            "- name: ACME_TOKEN\n  valueFrom: s3cr3t",
        ] {
            assert!(!regex.is_match(text), "{text}");
        }
    }
}
