//! Attack tokens and good ones against `auth::token::verify`, all built here with real keys.

use std::collections::HashSet;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use stenograph::app::demo::idp::{SigningKey, compact};
use stenograph::auth::keys::{Algorithm, KeyFault, KeySet, KeySets};
use stenograph::auth::token::{Claim, Issuer, TokenFault, bearer, verify};
use stenograph::limits::Limits;
use stenograph::types::{Identity, Now};

const ISSUER: &str = "https://login.example.com";
const OTHER: &str = "https://other.example.com";
const AUDIENCE: &str = "https://mcp.example.com/codegen";
const NOW_S: u64 = 1_800_000_000;

struct World {
    keys: Vec<SigningKey>,
    other: SigningKey,
    stranger: SigningKey,
    issuers: Vec<Issuer>,
    sets: KeySets,
}

fn issuer(url: &str, algorithms: &[Algorithm]) -> Issuer {
    Issuer {
        url: url.to_owned(),
        groups_claim: "groups".to_owned(),
        algorithms: algorithms.to_vec(),
        token_types: vec!["at+jwt".to_owned()],
    }
}

fn set_of(jwks: Vec<Value>, algorithms: &[Algorithm]) -> KeySet {
    KeySet::read(json!({ "keys": jwks }).to_string().as_bytes(), algorithms).unwrap()
}

/// Issuer 0 has a key of every algorithm and some that must not work; issuer 1 one key, with a key id
/// that issuer 0 uses too.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let keys: Vec<SigningKey> =
        Algorithm::ALL.map(|one| SigningKey::generate(one.as_str(), one)).into_iter().collect();
    let other = SigningKey::generate("ES256", Algorithm::Es256);
    let stranger = SigningKey::generate("ES256", Algorithm::Es256);
    let mut jwks: Vec<Value> = keys.iter().map(SigningKey::jwk).collect();
    let altered = |source: &SigningKey, kid: &str, change: &dyn Fn(&mut Value)| {
        let mut jwk = source.jwk();
        jwk["kid"] = json!(kid);
        change(&mut jwk);
        jwk
    };
    let es256 = &keys[1];
    let rs256 = &keys[3];
    jwks.push(altered(es256, "twice", &|_| {}));
    jwks.push(altered(rs256, "twice", &|_| {}));
    jwks.push(altered(es256, "enc", &|jwk| jwk["use"] = json!("enc")));
    jwks.push(altered(es256, "ops", &|jwk| jwk["key_ops"] = json!(["sign"])));
    jwks.push(altered(es256, "ops-text", &|jwk| jwk["key_ops"] = json!("verify")));
    jwks.push(altered(es256, "alg", &|jwk| jwk["alg"] = json!("ES384")));
    jwks.push(altered(rs256, "alg-hs", &|jwk| jwk["alg"] = json!("HS256")));
    jwks.push(altered(es256, "private", &|jwk| jwk["d"] = json!("AAAA")));
    jwks.push(json!({"kty": "oct", "kid": "oct", "alg": "HS256", "k": "c2VjcmV0"}));
    jwks.push(json!({"kty": "oct", "kid": "oct-empty", "k": ""}));
    jwks.push(json!({"kty": "OKP", "crv": "Ed448", "kid": "ed448", "x": "AAAA"}));
    jwks.push(altered(rs256, "rsa-small", &|jwk| {
        let mut n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
        n[128] |= 0x80; // 1024 bits, not fewer
        jwk["n"] = json!(URL_SAFE_NO_PAD.encode(&n[128..]));
    }));
    jwks.push(altered(rs256, "rsa-one", &|jwk| jwk["e"] = json!("AQ")));
    jwks.push(altered(es256, "off-curve", &|jwk| jwk["y"] = jwk["x"].clone()));
    // The neutral point: under it one signature fits every message.
    let mut weak = [0; 32];
    weak[0] = 1;
    jwks.push(json!({"kty": "OKP", "crv": "Ed25519", "kid": "weak",
        "x": URL_SAFE_NO_PAD.encode(weak)}));
    let issuers = vec![issuer(ISSUER, &Algorithm::ALL), issuer(OTHER, &[Algorithm::Es256])];
    let sets = KeySets::fixed(vec![
        set_of(jwks, &Algorithm::ALL),
        set_of(vec![other.jwk()], &[Algorithm::Es256]),
    ]);
    World { keys, other, stranger, issuers, sets }
});

fn key(algorithm: Algorithm) -> &'static SigningKey {
    WORLD.keys.iter().find(|key| key.algorithm == algorithm).unwrap()
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "client_id": "ide", "jti": "t-1",
        "groups": ["engineering"], "iat": NOW_S - 10, "exp": NOW_S + 600,
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn header_with(name: &str, value: Value) -> Value {
    let mut header = key(Algorithm::Es256).header();
    header[name] = value;
    header
}

fn header_without(name: &str) -> Value {
    let mut header = key(Algorithm::Es256).header();
    header.as_object_mut().unwrap().remove(name);
    header
}

fn now() -> Now {
    Now { utc_ns: NOW_S * 1_000_000_000, mono_ns: 1_000_000_000_000 }
}

fn judge(token: &[u8]) -> Result<Identity, TokenFault> {
    let limits = Limits::default();
    verify(token, &WORLD.issuers, &WORLD.sets, AUDIENCE, now(), &limits)
}

fn hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    compact(header.to_string().as_bytes(), claims.to_string().as_bytes(), |message| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.update(message);
        mac.finalize().into_bytes().to_vec()
    })
}

/// DER form of a fixed-length ECDSA signature.
fn der(fixed: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        let mut value = bytes[zeros..].to_vec();
        if value.first().is_none_or(|&byte| byte >= 0x80) {
            value.insert(0, 0);
        }
        let mut out = vec![2, value.len() as u8];
        out.extend(value);
        out
    };
    let (r, s) = fixed.split_at(fixed.len() / 2);
    let body = [integer(r), integer(s)].concat();
    let mut out = vec![0x30, body.len() as u8];
    out.extend(body);
    out
}

fn part(token: &str, index: usize) -> &str {
    token.split('.').nth(index).unwrap()
}

/// The token with its signature replaced.
fn resigned(token: &str, signature: &[u8]) -> String {
    format!("{}.{}.{}", part(token, 0), part(token, 1), URL_SAFE_NO_PAD.encode(signature))
}

/// Every control: accepted, with the identity that stands in it. And a second, independent reader of
/// tokens (jsonwebtoken) accepts it too, so that "good" is not only our own opinion.
#[test]
fn good_tokens_of_every_algorithm_are_accepted() {
    for signer in &WORLD.keys {
        let token = signer.mint(&claims());
        let identity =
            judge(token.as_bytes()).unwrap_or_else(|fault| panic!("{signer:?}: {fault}"));
        assert_eq!(&*identity.issuer, ISSUER);
        assert_eq!(&*identity.subject, "alice");
        assert_eq!(identity.client.as_deref(), Some("ide"));
        assert_eq!(identity.token_id.as_deref(), Some("t-1"));
        assert_eq!(identity.groups, ["engineering"]);
        assert_eq!((identity.issued_s, identity.expires_s), (NOW_S - 10, NOW_S + 600));
        assert_eq!(&*identity.key_id, signer.id);
        assert_eq!(identity.claims["aud"], AUDIENCE);

        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(signer.jwk()).unwrap();
        let mut validation =
            jsonwebtoken::Validation::new(signer.algorithm.as_str().parse().unwrap());
        validation.set_audience(&[AUDIENCE]);
        validation.validate_exp = false;
        let twin_key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
        let twin = jsonwebtoken::decode::<Value>(&token, &twin_key, &validation).unwrap();
        assert_eq!(twin.claims, claims());
        assert_eq!(
            &*identity.key_thumbprint,
            jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap()
        );
    }
}

#[test]
fn good_variants_are_accepted() {
    let signer = key(Algorithm::Es256);
    let mint = |header: Value, claims: Value| signer.mint_with(&header, &claims);
    let header = || signer.header();
    let other = WORLD.other.mint(&with("iss", json!(OTHER)));
    let cases = [
        ("typ in capitals", mint(header_with("typ", json!("AT+JWT")), claims())),
        ("typ as media type", mint(header_with("typ", json!("application/at+jwt")), claims())),
        ("unknown header member", mint(header_with("x5t", json!("AAAA")), claims())),
        ("aud as array", mint(header(), with("aud", json!(["https://a", AUDIENCE])))),
        ("nbf now", mint(header(), with("nbf", json!(NOW_S)))),
        ("nbf within leeway", mint(header(), with("nbf", json!(NOW_S + 30)))),
        ("iat within leeway", mint(header(), with("iat", json!(NOW_S + 30)))),
        ("last second", mint(header(), with("exp", json!(NOW_S + 1)))),
        ("whole lifetime", mint(header(), with("exp", json!(NOW_S - 10 + 24 * 3600)))),
        ("no groups", mint(header(), without("groups"))),
        ("one group as string", mint(header(), with("groups", json!("engineering")))),
        ("no client, no jti", {
            let mut claims = without("client_id");
            claims.as_object_mut().unwrap().remove("jti");
            mint(header(), claims)
        }),
        ("names beyond ASCII", mint(header(), with("sub", json!("Zoë Ångström")))),
        ("claims in any order and with white space", {
            let text = claims().to_string().replacen('{', "{ \"z\" : [1.5, null], ", 1);
            signer.mint_text(&header().to_string(), &text)
        }),
        ("another issuer with the same kid", other),
    ];
    for (name, token) in cases {
        if let Err(fault) = judge(token.as_bytes()) {
            panic!("{name}: {fault}");
        }
    }
    let mut web = without("client_id");
    web["azp"] = json!("web");
    let identity = judge(mint(header(), web).as_bytes()).unwrap();
    assert_eq!(identity.client.as_deref(), Some("web"));
}

#[test]
fn a_missing_type_passes_only_where_jwt_does() {
    let signer = key(Algorithm::Es256);
    let bare = signer.mint_with(&header_without("typ"), &claims());
    let plain = signer.mint_with(&header_with("typ", json!("JWT")), &claims());
    let mut issuers = WORLD.issuers.clone();
    let limits = Limits::default();
    for (types, allowed) in [(vec!["at+jwt"], false), (vec!["at+jwt", "jwt"], true)] {
        issuers[0].token_types = types.into_iter().map(str::to_owned).collect();
        for token in [&bare, &plain] {
            let verdict = verify(token.as_bytes(), &issuers, &WORLD.sets, AUDIENCE, now(), &limits);
            assert_eq!(verdict.is_ok(), allowed);
        }
    }
}

#[test]
fn groups_come_from_a_member_or_a_path() {
    let mut issuers = WORLD.issuers.clone();
    let limits = Limits::default();
    let mut claims = claims();
    claims["realm"] = json!({"access": {"roles": ["a", "b"]}});
    claims["https://example.com/groups"] = json!(["c"]);
    let token = key(Algorithm::EdDsa).mint(&claims);
    for (path, expected) in [
        ("realm.access.roles", vec!["a", "b"]),
        ("https://example.com/groups", vec!["c"]),
        ("realm.nothing", vec![]),
        ("groups.engineering", vec![]),
    ] {
        issuers[0].groups_claim = path.to_owned();
        let identity =
            verify(token.as_bytes(), &issuers, &WORLD.sets, AUDIENCE, now(), &limits).unwrap();
        assert_eq!(identity.groups, expected, "{path}");
    }
}

/// One way in: name, token, and the fault that must stop it.
type Attack = (String, String, TokenFault);

fn attack(name: impl Into<String>, token: String, fault: TokenFault) -> Attack {
    (name.into(), token, fault)
}

/// ES256 key of issuer 0, which most attacks are signed with.
fn es() -> &'static SigningKey {
    key(Algorithm::Es256)
}

fn headed(header: Value) -> String {
    es().mint_with(&header, &claims())
}

fn under(kid: &str) -> String {
    headed(header_with("kid", json!(kid)))
}

/// The ES256 header with these bytes as claims.
fn with_text(claims: &str) -> String {
    es().mint_text(&es().header().to_string(), claims)
}

fn attacks_on_the_form() -> Vec<Attack> {
    let good = es().mint(&claims());
    let text = claims().to_string();
    let (first, second, third) = (part(&good, 0), part(&good, 1), part(&good, 2));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    let header_text = es().header().to_string();
    // Minted until the signature holds a character in which the alphabets differ.
    let dashed = (0..)
        .map(|n| es().mint(&with("jti", json!(format!("t-{n}")))))
        .find(|token| part(token, 2).contains(['-', '_']))
        .unwrap();
    let standard = STANDARD.encode(URL_SAFE_NO_PAD.decode(part(&dashed, 2)).unwrap());
    // 64 bytes end in a character of which only two bits count.
    let stray = match good.chars().last().unwrap() {
        'A' => 'B',
        'Q' => 'R',
        'g' => 'h',
        _ => 'x',
    };
    let malformed: Vec<(&str, String)> = vec![
        ("empty", String::new()),
        ("one part", first.to_owned()),
        ("two parts", format!("{first}.{second}")),
        ("four parts", format!("{good}.AAAA")),
        ("five parts (JWE)", format!("{good}.AAAA.AAAA")),
        ("leading dot", format!(".{good}")),
        ("trailing dot", format!("{good}.")),
        ("leading space", format!(" {good}")),
        ("trailing space", format!("{good} ")),
        ("line feed inside", good.replacen('.', "\n.", 1)),
        ("trailing NUL", format!("{good}\0")),
        ("padding of the signature", format!("{good}==")),
        ("padding of the header", format!("{first}=.{second}.{third}")),
        ("signature in the standard alphabet", {
            let bare = standard.trim_end_matches('=');
            format!("{}.{}.{bare}", part(&dashed, 0), part(&dashed, 1))
        }),
        ("stray bits in the last character", format!("{}{stray}", &good[..good.len() - 1])),
        ("percent-encoded dots", good.replace('.', "%2E")),
        ("empty header", format!(".{second}.{third}")),
        ("empty claims", format!("{first}..{third}")),
        ("header is an array", es().mint_text("[]", &text)),
        ("claims are a string", with_text("\"sub\"")),
        ("claims are two objects", with_text(&format!("{text}{{}}"))),
        ("claims begin with a byte order mark", with_text(&format!("\u{feff}{text}"))),
        ("duplicate sub", with_text(&text.replacen('{', "{\"sub\":\"root\",", 1))),
        ("duplicate sub by escape", with_text(&text.replacen('{', "{\"s\\u0075b\":\"root\",", 1))),
        ("duplicate nested", with_text(&text.replacen('{', "{\"a\":{\"b\":1,\"b\":2},", 1))),
        ("duplicate alg", {
            es().mint_text(&header_text.replacen('{', "{\"alg\":\"none\",", 1), &text)
        }),
        ("duplicate kid", {
            es().mint_text(&header_text.replacen('{', "{\"kid\":\"RS256\",", 1), &text)
        }),
        ("claims nested 1000 deep", with_text(&deep)),
        ("exp is infinite", with_text(&text.replace(&(NOW_S + 600).to_string(), "1e999"))),
    ];
    let mut attacks: Vec<Attack> = malformed
        .into_iter()
        .map(|(name, token)| attack(name, token, TokenFault::Malformed))
        .collect();
    attacks.push(attack("too long", format!("{good}{}", "A".repeat(17_000)), TokenFault::TooLong));
    attacks.push(attack("too long and full of dots", ".".repeat(17_000), TokenFault::TooLong));
    attacks
}

fn attacks_on_the_algorithm() -> Vec<Attack> {
    let mut attacks = Vec::new();
    let mut push = |name: String, token: String| {
        attacks.push(attack(name, token, TokenFault::Algorithm));
    };
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let header = header_with("alg", json!(none));
        let (head, body) = (header.to_string(), claims().to_string());
        push(
            format!("alg {none:?} without signature"),
            compact(head.as_bytes(), body.as_bytes(), |_| Vec::new()),
        );
        push(format!("alg {none:?} with a real signature"), headed(header));
    }
    push("no alg".into(), headed(header_without("alg")));
    push("alg in lower case".into(), headed(header_with("alg", json!("es256"))));
    push("alg as array".into(), headed(header_with("alg", json!(["ES256"]))));
    push("alg null".into(), headed(header_with("alg", Value::Null)));
    push("alg of another key".into(), headed(header_with("alg", json!("ES384"))));
    let rs = key(Algorithm::Rs256);
    let modulus = URL_SAFE_NO_PAD.decode(rs.jwk()["n"].as_str().unwrap()).unwrap();
    let hs_header = json!({"alg": "HS256", "typ": "at+jwt", "kid": "RS256"});
    push("HS256 with the modulus".into(), hs256(&modulus, &hs_header, &claims()));
    let jwk_text = rs.jwk().to_string();
    push("HS256 with the key's text".into(), hs256(jwk_text.as_bytes(), &hs_header, &claims()));
    push("HS256 with an empty secret".into(), hs256(b"", &hs_header, &claims()));
    let oct = json!({"alg": "HS256", "typ": "at+jwt", "kid": "oct"});
    push("HS256 with the set's symmetric key".into(), hs256(b"secret", &oct, &claims()));
    let mut header = rs.header();
    header["alg"] = json!("PS256");
    push("RS256 key named PS256".into(), rs.mint_with(&header, &claims()));
    let mut header = key(Algorithm::Ps256).header();
    header["alg"] = json!("RS256");
    push("PS256 key named RS256".into(), key(Algorithm::Ps256).mint_with(&header, &claims()));
    push(
        "algorithm the issuer does not use".into(),
        key(Algorithm::EdDsa).mint(&with("iss", json!(OTHER))),
    );
    attacks
}

fn attacks_on_the_header() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for member in ["crit", "jku", "x5u", "jwk", "x5c", "zip", "cty", "b64", "enc"] {
        let value = match member {
            "crit" => json!(["exp"]),
            "jwk" => WORLD.stranger.jwk(),
            "x5c" => json!(["AAAA"]),
            "zip" => json!("DEF"),
            "b64" => json!(true),
            "jku" | "x5u" => json!("http://127.0.0.1:9/keys"),
            _ => json!("JWT"),
        };
        for value in [value, Value::Null] {
            attacks.push(attack(
                format!("header with {member} {value}"),
                headed(header_with(member, value)),
                TokenFault::HeaderMember,
            ));
        }
    }
    let embedded = header_with("jwk", WORLD.stranger.jwk());
    attacks.push(attack(
        "signed with the embedded key",
        WORLD.stranger.mint_with(&embedded, &claims()),
        TokenFault::HeaderMember,
    ));
    let types = [
        json!("JWT"),
        json!("dpop+jwt"),
        json!("secevent+jwt"),
        json!("logout+jwt"),
        json!("oauth-id-jag+jwt"),
        json!(""),
        json!("at+jwt "),
        json!("text/at+jwt"),
        json!("application/"),
        json!("application/application/at+jwt"),
        json!(["at+jwt"]),
        Value::Null,
    ];
    for typ in types {
        attacks.push(attack(
            format!("typ {typ}"),
            headed(header_with("typ", typ)),
            TokenFault::Type,
        ));
    }
    attacks.push(attack("no typ", headed(header_without("typ")), TokenFault::Type));
    attacks
}

fn attacks_on_the_key() -> Vec<Attack> {
    let unknown = TokenFault::UnknownKey { issuer: 0 };
    let mut attacks = vec![
        attack("no kid", headed(header_without("kid")), TokenFault::NoKeyId),
        attack("empty kid", under(""), TokenFault::NoKeyId),
        attack("kid as number", headed(header_with("kid", json!(1))), TokenFault::NoKeyId),
        attack("kid that stands twice", under("twice"), TokenFault::AmbiguousKey),
        attack("namesake of another issuer", WORLD.other.mint(&claims()), TokenFault::Signature),
        attack(
            "own key for another issuer",
            es().mint(&with("iss", json!(OTHER))),
            TokenFault::Signature,
        ),
        attack("stranger's key", WORLD.stranger.mint(&claims()), TokenFault::Signature),
    ];
    for kid in [
        "../../../../dev/null",
        "x' UNION SELECT 'k",
        "es256",
        "new",
        "oct",
        "enc",
        "ops",
        "ops-text",
        "alg",
        "alg-hs",
        "private",
        "off-curve",
    ] {
        attacks.push(attack(format!("kid {kid:?}"), under(kid), unknown));
    }
    for kid in ["rsa-small", "rsa-one"] {
        let rs = key(Algorithm::Rs256);
        let mut header = rs.header();
        header["kid"] = json!(kid);
        attacks.push(attack(format!("kid {kid:?}"), rs.mint_with(&header, &claims()), unknown));
    }
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "weak"}).to_string();
    let mut neutral = vec![0; 64];
    neutral[0] = 1;
    attacks.push(attack(
        "Edwards key of small order",
        compact(header.as_bytes(), claims().to_string().as_bytes(), |_| neutral),
        unknown,
    ));
    attacks
}

fn attacks_on_the_signature() -> Vec<Attack> {
    let good = es().mint(&claims());
    let signature = URL_SAFE_NO_PAD.decode(part(&good, 2)).unwrap();
    let (r, s) = signature.split_at(32);
    let order = URL_SAFE_NO_PAD.decode("_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE").unwrap();
    let root = es().mint(&with("sub", json!("root")));
    let marked = es().mint_with(&header_with("x", json!(1)), &claims());
    let header = es().header().to_string();
    let mut tokens: Vec<(String, String)> = vec![
        ("no signature".into(), resigned(&good, &[])),
        ("DER signature".into(), resigned(&good, &der(&signature))),
        ("zero signature".into(), resigned(&good, &[0; 64])),
        ("r and s swapped".into(), resigned(&good, &[s, r].concat())),
        ("r and s with a zero in front".into(), resigned(&good, &[&[0], r, &[0], s].concat())),
        ("r and s are the order".into(), resigned(&good, &[&order[..], &order].concat())),
        ("a byte more".into(), resigned(&good, &[&signature[..], &[0]].concat())),
        ("twice the signature".into(), resigned(&good, &[&signature[..], &signature].concat())),
        (
            "claims of another token".into(),
            format!("{}.{}.{}", part(&good, 0), part(&root, 1), part(&good, 2)),
        ),
        (
            "header of another token".into(),
            format!("{}.{}.{}", part(&marked, 0), part(&good, 1), part(&good, 2)),
        ),
        (
            "P-384 signature under P-256".into(),
            compact(header.as_bytes(), claims().to_string().as_bytes(), |message| {
                key(Algorithm::Es384).sign(message)
            }),
        ),
    ];
    for signer in &WORLD.keys {
        let token = signer.mint(&claims());
        let signature = URL_SAFE_NO_PAD.decode(part(&token, 2)).unwrap();
        let mut flipped = signature.clone();
        flipped[20] ^= 1;
        tokens.push((format!("flipped bit, {}", signer.id), resigned(&token, &flipped)));
        let short = &signature[..signature.len() - 1];
        tokens.push((format!("short signature, {}", signer.id), resigned(&token, short)));
    }
    // RFC 8032 §5.1.7: s must be below l, or every signature has a second form.
    let token = key(Algorithm::EdDsa).mint(&claims());
    let mut second = URL_SAFE_NO_PAD.decode(part(&token, 2)).unwrap();
    let l: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, add) in second[32..].iter_mut().zip(l) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    tokens.push(("Edwards signature with s + l".into(), resigned(&token, &second)));
    tokens.into_iter().map(|(name, token)| attack(name, token, TokenFault::Signature)).collect()
}

fn attacks_on_issuer_and_audience() -> Vec<Attack> {
    let mint = |name: &str, value: Value| es().mint(&with(name, value));
    let mut attacks = vec![
        attack("no iss", es().mint(&without("iss")), TokenFault::ClaimMissing(Claim::Issuer)),
        attack("no aud", es().mint(&without("aud")), TokenFault::ClaimMissing(Claim::Audience)),
    ];
    for iss in [json!([ISSUER]), json!({ "url": ISSUER }), Value::Null, json!(1)] {
        let name = format!("iss {iss}");
        attacks.push(attack(name, mint("iss", iss), TokenFault::ClaimForm(Claim::Issuer)));
    }
    for iss in [
        "https://login.example.com/",
        "https://LOGIN.example.com",
        "http://login.example.com",
        "https://login.example.com:443",
        " https://login.example.com",
        "https://login.example.com.evil.example",
        "",
        "https://login.example.com\u{0}",
    ] {
        let name = format!("iss {iss:?}");
        attacks.push(attack(name, mint("iss", json!(iss)), TokenFault::UnknownIssuer));
    }
    for aud in [
        json!({ "0": AUDIENCE }),
        json!([[AUDIENCE]]),
        json!([AUDIENCE, 1]),
        json!(1),
        Value::Null,
        json!(true),
    ] {
        let name = format!("aud {aud}");
        attacks.push(attack(name, mint("aud", aud), TokenFault::ClaimForm(Claim::Audience)));
    }
    for aud in [
        json!("https://mcp.example.com/other"),
        json!("https://mcp.example.com"),
        json!("https://mcp.example.com/codegen/x"),
        json!("https://mcp.example.com/codegen/"),
        json!("https://MCP.example.com/codegen"),
        json!("*"),
        json!(""),
        json!([]),
        json!(format!("{AUDIENCE} https://b")),
        json!(["https://a", "https://b"]),
        json!("https://mcp.example.com/codegen\u{0}"),
    ] {
        let name = format!("aud {aud}");
        attacks.push(attack(name, mint("aud", aud), TokenFault::WrongAudience));
    }
    attacks
}

fn attacks_on_the_times() -> Vec<Attack> {
    let mint = |name: &str, value: Value| es().mint(&with(name, value));
    let both = |iat: u64, exp: u64| {
        let mut claims = with("iat", json!(iat));
        claims["exp"] = json!(exp);
        es().mint(&claims)
    };
    let text = claims().to_string();
    let huge = text.replace(&(NOW_S + 600).to_string(), "18446744073709551616");
    let mut attacks = vec![
        attack("no exp", es().mint(&without("exp")), TokenFault::ClaimMissing(Claim::Expires)),
        attack("no iat", es().mint(&without("iat")), TokenFault::ClaimMissing(Claim::Issued)),
        attack("exp overflows", with_text(&huge), TokenFault::ClaimForm(Claim::Expires)),
        attack("expired", mint("exp", json!(NOW_S - 1)), TokenFault::Expired),
        attack("expires this second", mint("exp", json!(NOW_S)), TokenFault::Expired),
        attack("exp zero", mint("exp", json!(0)), TokenFault::Expired),
        attack("nbf beyond leeway", mint("nbf", json!(NOW_S + 31)), TokenFault::NotYetValid),
        attack("iat beyond leeway", mint("iat", json!(NOW_S + 31)), TokenFault::IssuedLater),
        attack("exp before iat", both(NOW_S + 20, NOW_S + 10), TokenFault::Lifetime),
        attack("exp equals iat", both(NOW_S + 20, NOW_S + 20), TokenFault::Lifetime),
        attack("a second too long", both(NOW_S, NOW_S + 24 * 3600 + 1), TokenFault::Lifetime),
        attack("exp at the end of time", mint("exp", json!(u64::MAX)), TokenFault::Lifetime),
        attack("iat at the beginning", mint("iat", json!(0)), TokenFault::Lifetime),
    ];
    for (name, claim) in
        [("exp", Claim::Expires), ("iat", Claim::Issued), ("nbf", Claim::NotBefore)]
    {
        for value in [
            json!(NOW_S.to_string()),
            json!(NOW_S as f64 + 0.5),
            json!(-1),
            json!(1e18),
            Value::Null,
            json!([NOW_S]),
            json!({}),
            json!(true),
        ] {
            let title = format!("{name} {value}");
            attacks.push(attack(title, mint(name, value), TokenFault::ClaimForm(claim)));
        }
    }
    attacks
}

fn attacks_on_the_names() -> Vec<Attack> {
    let mint = |name: &str, value: Value| es().mint(&with(name, value));
    let mut attacks = vec![attack(
        "no sub",
        es().mint(&without("sub")),
        TokenFault::ClaimMissing(Claim::Subject),
    )];
    for sub in [
        json!(1),
        json!(["alice"]),
        json!({ "id": "alice" }),
        Value::Null,
        json!(true),
        json!(""),
        json!("alice\u{0}"),
        json!("alice\n"),
        json!("\u{1b}[31malice"),
        json!("\u{202e}ecila"),
        json!("al\u{200b}ice"),
        json!("\u{feff}alice"),
        json!("al\u{2066}ice"),
        json!("alice\u{e0041}"),
        json!("alice\u{85}"),
        json!("a".repeat(513)),
    ] {
        let name = format!("sub {sub}");
        attacks.push(attack(name, mint("sub", sub), TokenFault::ClaimForm(Claim::Subject)));
    }
    for (name, value, claim) in [
        ("client_id", json!(["ide"]), Claim::Client),
        ("client_id", json!("ide\r\n"), Claim::Client),
        ("azp", json!(7), Claim::AuthorizedParty),
        ("jti", json!(7), Claim::TokenId),
        ("groups", json!({ "admin": true }), Claim::Groups),
        ("groups", json!(["a", 1]), Claim::Groups),
    ] {
        let title = format!("{name} {value}");
        attacks.push(attack(title, mint(name, value), TokenFault::ClaimForm(claim)));
    }
    for cnf in [
        json!({ "jkt": "AAAA" }),
        json!({ "x5t#S256": "AAAA" }),
        json!({ "x5t#S256": "A".repeat(42) + "B" }),
        json!({ "x5t#S256": "A".repeat(44) }),
        json!({ "x5t#S256": "A".repeat(43), "jkt": "AAAA" }),
        json!({ "x5t": "A".repeat(43) }),
        json!(["x5t#S256"]),
        json!({ "new": 1 }),
        json!({}),
        Value::Null,
    ] {
        let name = format!("cnf {cnf}");
        attacks.push(attack(name, mint("cnf", cnf), TokenFault::Bound));
    }
    attacks
}

/// Each attack must end with the fault named, so that a check that is skipped shows even where a later
/// one would refuse too.
///
/// Mutants, each failing here: a lenient base64 decoder; each of the nine refused header members let
/// through; the configured algorithms, the key's algorithm, `typ`, the signature, the signature's
/// coverage of the header, `cnf`, `nbf`, `iat`, the lifetime, the length or duplicates not checked; a
/// missing `typ` always good; `aud` by prefix or in a mixed array; `exp` one second or one leeway late;
/// fractions in times; control or invisible characters in names; `iss` without its last slash; another
/// issuer's keys; the first of two keys of one id; `use`, `key_ops`, `alg` or `d` of a key ignored; RSA
/// from 1024 bits or with exponent 1; Edwards keys of small order.
#[test]
fn attacks_are_refused_each_for_its_reason() {
    let attacks: Vec<Attack> = [
        attacks_on_the_form(),
        attacks_on_the_algorithm(),
        attacks_on_the_header(),
        attacks_on_the_key(),
        attacks_on_the_signature(),
        attacks_on_issuer_and_audience(),
        attacks_on_the_times(),
        attacks_on_the_names(),
    ]
    .concat();
    assert!(attacks.len() >= 134, "{} attacks", attacks.len());
    let names: HashSet<&str> = attacks.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names.len(), attacks.len(), "two attacks of one name");
    let mut wrong = Vec::new();
    for (name, token, expected) in &attacks {
        match judge(token.as_bytes()) {
            Err(fault) if fault == *expected => {}
            Err(fault) => wrong.push(format!("{name}: refused as {fault:?}, not {expected:?}")),
            Ok(_) => wrong.push(format!("{name}: ACCEPTED")),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), attacks.len(), wrong.join("\n"));
}

/// Mutant: a verifier that ignores the signature's last bytes passes a cut one.
#[test]
fn every_cut_and_every_changed_character_is_refused() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let token = key(algorithm).mint(&claims());
        for cut in 0..token.len() {
            assert!(judge(&token.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(judge(&bytes).is_err(), "changed at {at}");
        }
    }
}

#[test]
fn keys_that_cannot_be_used_are_left_out_for_a_reason() {
    let ignored = &WORLD.sets.issuer(0).unwrap().set.as_ref().unwrap().ignored;
    let faults: Vec<KeyFault> = ignored.iter().map(|(_, fault)| *fault).collect();
    let expected = [
        KeyFault::Use,
        KeyFault::Operations,
        KeyFault::Operations,
        KeyFault::Algorithm,
        KeyFault::Algorithm,
        KeyFault::Private,
        KeyFault::Kind,
        KeyFault::Kind,
        KeyFault::Curve,
        KeyFault::Weak,
        KeyFault::Weak,
        KeyFault::Component,
        KeyFault::Component,
    ];
    assert_eq!(faults, expected);
    for document in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[],\"keys\":[]}"] {
        let fault = KeySet::read(document.as_bytes(), &Algorithm::ALL).err();
        assert_eq!(fault, Some(KeyFault::Document));
    }
}

#[test]
fn an_rsa_key_without_alg_serves_one_algorithm_only() {
    let mut jwk = key(Algorithm::Rs256).jwk();
    jwk.as_object_mut().unwrap().remove("alg");
    for (configured, expected) in [
        (vec![Algorithm::Rs256, Algorithm::Ps256], Some(Algorithm::Rs256)),
        (vec![Algorithm::Ps256, Algorithm::Rs256], Some(Algorithm::Ps256)),
        (vec![Algorithm::EdDsa, Algorithm::Ps256], Some(Algorithm::Ps256)),
        (vec![Algorithm::EdDsa], None),
    ] {
        let set = set_of(vec![jwk.clone()], &configured);
        assert_eq!(set.keys().first().map(|key| key.algorithm), expected);
    }
}

/// Mutants: trimming more than spaces; taking the text after the last space.
#[test]
fn authorization_is_one_scheme_and_one_token() {
    assert_eq!(bearer(None), Err(TokenFault::Missing));
    for good in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c"] {
        assert_eq!(bearer(Some(good.as_bytes())), Ok(&b"a.b.c"[..]));
    }
    assert_eq!(bearer(Some(b"Bearer YWJj==")), Ok(&b"YWJj=="[..]));
    for scheme in ["Basic YTpi", "DPoP a.b.c", "a.b.c", "", "Bearer\ta.b.c", " Bearer a.b.c"] {
        assert_eq!(bearer(Some(scheme.as_bytes())), Err(TokenFault::Scheme), "{scheme:?}");
    }
    for bad in [
        "Bearer",
        "Bearer ",
        "Bearer =",
        "Bearer a.b.c d",
        "Bearer a.b.c,Bearer d",
        "Bearer a\0b",
        "Bearer \"a.b.c\"",
        "Bearer a=b",
        "Bearer a.b.c\t",
        "Bearer ä",
        "Bearer \ta.b.c",
    ] {
        assert_eq!(bearer(Some(bad.as_bytes())), Err(TokenFault::Credentials), "{bad:?}");
    }
}
