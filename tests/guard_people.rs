//! Personal data beside what looks like it: numbers with a sign, tables, fractions, references.

use stenograph::types::{Direction, RuleAction};

#[path = "guard_support/mod.rs"]
mod support;
#[path = "guard_support/text.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod text;

use support::Judge;
use text::Seed;

/// What is masked or blocked in `text`, with its rule.
fn masked(judge: &mut Judge, text: &str) -> Vec<(String, String)> {
    found(judge, text, |action| action != RuleAction::Alert)
}

/// What is found in `text`, with its rule.
fn found(judge: &mut Judge, text: &str, counts: fn(RuleAction) -> bool) -> Vec<(String, String)> {
    let findings = judge.scan(text.as_bytes(), Direction::Response);
    let counted = findings.into_iter().filter(|finding| counts(finding.action));
    counted.map(|at| (at.rule.to_string(), text[at.span.range()].to_owned())).collect()
}

/// A decimal with `places` digits behind the dot, below `below`, with its sign.
fn decimal(seed: &mut Seed, below: u64, places: usize) -> String {
    let sign = ['+', '-'][seed.below(2)];
    format!("{sign}{}.{}", seed.number(0, below), seed.of("0123456789", places))
}

// `%+.8f` was masked in three lines of four.
#[test]
fn numbers_with_a_sign_are_not_taken_for_telephone_numbers() {
    let kinds: [fn(&mut Seed) -> String; 9] = [
        |seed| decimal(seed, 1000, 8),
        |seed| decimal(seed, 1000, 6),
        |seed| decimal(seed, 10, 10),
        |seed| format!("{} {}", decimal(seed, 90, 6), decimal(seed, 180, 6)),
        |seed| {
            format!(
                "+{}.{} {}",
                seed.number(0, 90),
                seed.of("0123456789", 4),
                decimal(seed, 180, 4)
            )
        },
        |seed| {
            let (north, east) = (seed.number(0, 90), seed.number(0, 180));
            format!("+{north:02}{:02}-{east:03}{:02}", seed.number(0, 60), seed.number(0, 60))
        },
        |seed| format!("RSS delta +{}", seed.number(1, 1 << 31)),
        |seed| format!("diff +{} -{}", seed.number(1, 100), seed.number(1, 100_000_000)),
        |seed| {
            let (month, day, hour) = (seed.number(1, 13), seed.number(1, 29), seed.number(0, 24));
            format!("+2026{month:02}{day:02}-{hour:02}{}", seed.of("012345", 4))
        },
    ];
    let mut judge = Judge::builtin();
    let mut seed = Seed(0x5161);
    for (kind, text) in kinds.iter().enumerate() {
        let mut wrong = vec![];
        for _ in 0..100 {
            let lines = (0..100).map(|line| {
                let before = ["", "loss ", "x = ", "{\"v\": \"", "(", "a, "][line % 6];
                format!("{before}{}\n", text(&mut seed))
            });
            wrong.extend(masked(&mut judge, &lines.collect::<String>()));
        }
        assert!(wrong.len() <= 1, "{kind}: {wrong:?}");
    }
    for text in ["RSS delta +4915112345678", "+3217-06446\tAmerica/Havana", "+203.0.113.100 added"]
    {
        assert_eq!(masked(&mut judge, text), [], "{text}");
    }
}

// Every separator of E.123 and RFC 5733.
#[test]
fn telephone_numbers_with_their_usual_separators_are_found() {
    let mut judge = Judge::builtin();
    for number in [
        "+14155552671",
        "+1 (415) 555-2671",
        "+1.415.555.2671",
        "+1-415-555-2671",
        "+44 20 7946 0958",
        "+44 (0)20 7946 0958",
        "+49 30 12345678",
        "+4915112345678",
        "+33 6 12 34 56 78",
        "+33.6.12.34.56.78",
        "+91 98765 43210",
        "+55 11 91234-5678",
        "+34612345678",
    ] {
        for (before, after) in
            [("", ""), ("reach ", " today"), ("a,", ",b"), ("<td>", "</td>"), ("loss ", "")]
        {
            let seen = masked(&mut judge, &format!("{before}{number}{after}"));
            let bare = number.bytes().skip(1).all(|byte| byte.is_ascii_digit());
            assert!(seen.len() == 1 || bare && before == "loss ", "{before}{number}: {seen:?}");
        }
    }
    assert_eq!(masked(&mut judge, "Registrant Phone: +1.4155552671").len(), 1);
    assert_eq!(masked(&mut judge, "Registrant Phone: +49123456.7890"), []);
}

// Curve tables, decimals and code ranges were masked.
#[test]
fn numbers_among_numbers_are_not_taken_for_cards() {
    let mut judge = Judge::builtin();
    for text in [
        "359573079719636, 36370565049116",
        "344155944689303, 615279846169038",
        "1001412661522686, 348196197067298, 1666614366723946,",
        "dddiv4041 divide  5235714985079914   5235714985066131  ->  1.0000000000026",
        "    2251799813685228,",
        "static const u64 t[] = { 2235858054780980, 38116887248276 };",
        "x .4111111111111111",
        "x -4111111111111111",
        "5414 5415 5416 5417 20BBF 20BC6",
        "0 0 2298 2299 3120 3121 - -",
    ] {
        assert_eq!(masked(&mut judge, text), [], "{text}");
    }
    // Beside other fields, other cards and list marks a card stays one.
    for text in [
        "4111111111111111",
        "paid with 4111111111111111.",
        "Smith,4111111111111111,12/27",
        "1234567890123456,4111111111111111,x",
        "4111111111111111, 5555555555554444",
        "5551234567 4111111111111111",
        "4111 1111 1111 1111",
        "5555 5555 5555 4444",
        "card 4111111111111111 1666614366723946",
        "- 4111111111111111",
    ] {
        assert!(!masked(&mut judge, text).is_empty(), "{text}");
    }
}

// Dates behind `mobile:` and references to where a password is kept were masked.
#[test]
fn what_stands_behind_a_label_is_read_for_what_it_is() {
    let mut judge = Judge::builtin();
    for text in [
        "// mobile : 2016-06-02 Dish DBS",
        "fax: 2016/06/02",
        "tel: 14.07.2016",
        r#"{"password":"arn:aws:secretsmanager:eu-west-1:1:secret:db1"}"#,
        r#"{"password":"projects/p1/secrets/x/versions/1"}"#,
        r#"{"password":"%env(DB_PASSWORD1)%"}"#,
        r##"{"password":"#{db.password1}"}"##,
        r#"{"password":"file:/etc/pw2.txt"}"#,
        r#"{"password":"string|min:8|max:64"}"#,
        r##"{"api_key":"#/components/securitySchemes/apiKey2"}"##,
        "curl -u username:password https://api.example.com",
    ] {
        assert_eq!(masked(&mut judge, text), [], "{text}");
    }
    for text in [
        r#"{"telephone":"0049 30 27729689"}"#,
        "tel: 02-9876-5432",
        "mobile: 2016 555 0132",
        r#"{"password":"c0rrect#h0rse"}"#,
        "curl -u admin:hunter22 https://api.example.com",
    ] {
        assert_eq!(masked(&mut judge, text).len(), 1, "{text}");
    }
}

// None of them was found at all.
#[test]
fn personal_data_is_found_in_every_surrounding() {
    let mut judge = Judge::builtin();
    for (text, rule) in [
        ("<DOB>12/03/1984</DOB>", "date-of-birth"),
        ("<td>Date of birth</td><td>1984-03-12</td>", "date-of-birth"),
        ("dob,12 March 1984", "date-of-birth"),
        ("DOB: 12-Mar-1984", "date-of-birth"),
        ("**DOB:** 12/03/1984", "date-of-birth"),
        (r#"["dob","1984-03-12"]"#, "date-of-birth"),
        ("| Date of birth | 03.12.1984 |", "date-of-birth"),
        ("customer.dob == '1984/03/12'", "date-of-birth"),
        ("- dob — 1984-03-12", "date-of-birth"),
        ("Please update date of birth to 1984-03-12.", "date-of-birth"),
        ("<passport_number>X1234567</passport_number>", "passport"),
        ("<td>Passport</td><td>533380006</td>", "passport"),
        ("**Passport No:** X1234567", "passport"),
        ("Passport No: C01X00T47", "passport"),
        ("eth wallet 0xa7a33f5aaeb6053f3e94c9b9a09f33669435e7ef", "crypto-wallet-eth-labelled"),
        (r#"{"address":"3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy"}"#, "crypto-wallet-base58"),
    ] {
        let seen = masked(&mut judge, text);
        assert!(seen.len() == 1 && seen[0].0 == rule, "{text}: {seen:?}");
    }
    let seen = found(&mut judge, r#"{"card_number":4.111111111111111e15}"#, |_| true);
    assert!(seen.len() == 1 && seen[0].0 == "payment-card-float", "{seen:?}");
    for address in ["2a02:8108:8ac0:1::5", "2001:4860:4860::8888", "2607:f8b0:4005:80a:0:0:0:200e"]
    {
        for text in [
            format!("from {address} port 22"),
            format!("[{address}]:443"),
            format!("{address}: no route"),
        ] {
            let seen = found(&mut judge, &text, |action| action == RuleAction::Alert);
            assert_eq!(seen, [("ipv6-address".to_owned(), address.to_owned())], "{text}");
        }
    }
    for text in [
        "2001:db8::1",
        "2002:c000:204::1",
        "fe80::1%eth0",
        "fd12:3456::1",
        "::1",
        "52:54:00:12:34:56",
        "std::2001::a2",
        "2026-11-22 20:01:10:20",
        "2001:10:20:30",
        "passport.js 0.6.0",
        "dob: 99/99/9999",
        "digest 0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
    ] {
        assert_eq!(found(&mut judge, text, |_| true), [], "{text}");
    }
}

#[test]
fn a_card_of_a_rare_brand_is_masked_in_groups_too() {
    let mut judge = Judge::builtin();
    let rare = "6759 6498 2643 8453";
    let card = |value: &str| vec![("payment-card-labelled".to_owned(), value.to_owned())];
    assert_eq!(masked(&mut judge, &format!("card {rare}")), card(rare));
    assert_eq!(masked(&mut judge, "card 6759 6498 2643 8454"), []);
    assert_eq!(masked(&mut judge, rare), []);
}
