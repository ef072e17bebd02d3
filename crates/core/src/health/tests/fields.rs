//! The numbers in a report, each accepted or ignored separately.
use super::super::dialect::tests::read;
use super::*;

fn parse(body: impl AsRef<[u8]>) -> Result<Health, HealthError> {
    read(200, &[("content-type", "application/json")], body).map(|reading| reading.health)
}

#[test]
fn a_full_body_is_read() {
    let body = br#" {"status":"degraded","cpu_usage":85,"memory_usage":40.5,"error_count":7,
        "uptime":12.25,"version":{"of":["anything",1e400]}}"#;
    let health = Health {
        says: Says::Warns,
        is_vague: false,
        left_out: None,
        cpu_usage: Some(85.0),
        memory_usage: Some(40.5),
        error_count: Some(7),
        uptime: Some(12.25),
    };
    assert_eq!(parse(body), Ok(health));
}

#[test]
fn missing_fields_stay_missing() {
    assert_eq!(parse(b"{}"), Ok(Health::default()));
    assert_eq!(parse(br#"{"cpu_usage":null,"status":null}"#), Ok(Health::default()));
    assert_eq!(parse(br#"{"CPU_USAGE":3}"#), Ok(Health::default()));
}

#[test]
fn every_number_has_its_bounds() {
    use Fault::{Absurd, Fraction, Negative, WrongType};
    for (field, value, fault) in [
        (Field::CpuUsage, "101", Some(Absurd)),
        (Field::CpuUsage, "100.4", None),
        (Field::CpuUsage, "100", None),
        (Field::CpuUsage, "-0.0", None),
        (Field::CpuUsage, "-1", Some(Negative)),
        (Field::CpuUsage, "\"85\"", Some(WrongType)),
        (Field::MemoryUsage, "1e308", Some(Absurd)),
        (Field::MemoryUsage, "[85]", Some(WrongType)),
        (Field::MemoryUsage, "true", Some(WrongType)),
        (Field::ErrorCount, "5.0", None),
        (Field::ErrorCount, "5.5", Some(Fraction)),
        (Field::ErrorCount, "-1", Some(Negative)),
        (Field::ErrorCount, "1000000000", None),
        (Field::ErrorCount, "1000000001", Some(Absurd)),
        (Field::ErrorCount, "18446744073709551616", Some(Absurd)),
        (Field::Uptime, "315576000", None),
        (Field::Uptime, "1732343710", Some(Absurd)),
        (Field::Uptime, "-0.001", Some(Negative)),
        (Field::Uptime, "{\"seconds\":1}", Some(WrongType)),
    ] {
        let body = format!(r#"{{"{}":{value}}}"#, field.name());
        let health = parse(&body).unwrap();
        assert_eq!(health.left_out, fault.map(|fault| (field, fault)), "{body}");
        let numbers = [health.cpu_usage, health.memory_usage].map(|n| n.is_some());
        let is_said = numbers[0] || numbers[1] || health.error_count.is_some();
        assert_eq!(is_said || health.uptime.is_some(), fault.is_none(), "{body}");
    }
    assert_eq!(parse(br#"{"cpu_usage":100.4}"#).unwrap().cpu_usage, Some(100.0));
    assert_eq!(parse(br#"{"error_count":5.0}"#).unwrap().error_count, Some(5));
}

#[test]
fn one_absurd_field_spoils_no_other() {
    let body = r#"{"status":"degraded","cpu_usage":135,"memory_usage":524288,"error_count":7,
        "uptime":"3 days"}"#;
    let health = Health {
        says: Says::Warns,
        left_out: Some((Field::CpuUsage, Fault::Absurd)),
        error_count: Some(7),
        ..Health::default()
    };
    assert_eq!(parse(body), Ok(health));
}

#[test]
fn a_repeated_field_is_ambiguous() {
    let body = r#"{"error_count":0,"x":1,"x":2,"error_\u0063ount":99,"uptime":1}"#;
    let health = parse(body).unwrap();
    assert_eq!(health.left_out, Some((Field::ErrorCount, Fault::Repeated)));
    assert_eq!((health.error_count, health.uptime), (None, Some(1.0)));
    let health = parse(r#"{"uptime":null,"uptime":1}"#).unwrap();
    assert_eq!((health.left_out, health.uptime), (Some((Field::Uptime, Fault::Repeated)), None));
}

#[test]
fn numbers_that_json_does_not_have_spoil_their_own_field_alone() {
    use Fault::{Absurd, Negative, WrongType};
    for (value, fault) in [
        ("NaN", Some(WrongType)),
        ("Infinity", Some(WrongType)),
        ("-Infinity", Some(WrongType)),
        ("1e400", Some(Absurd)),
        ("-1e400", Some(Negative)),
        ("\"NaN\"", Some(WrongType)),
        ("1e-400", None),
    ] {
        let body =
            format!(r#"{{"a":"NaN, \"-Infinity","cpu_usage":{value},"x":[{value}],"uptime":2}}"#);
        let health = parse(&body).unwrap();
        assert_eq!(health.left_out, fault.map(|fault| (Field::CpuUsage, fault)), "{body}");
        assert_eq!(health.uptime, Some(2.0), "{body}");
    }
}

#[test]
fn a_body_that_is_not_a_report_is_named() {
    for (body, expected) in [
        ("<!DOCTYPE html><html></html>", NotJson::Markup),
        ("<?xml version=\"1.0\"?><a/>", NotJson::Markup),
        ("[1,2,3,4,5]", NotJson::NotObject),
        ("\"healthy\"", NotJson::NotObject),
        ("null", NotJson::NotObject),
        ("NaN", NotJson::NotObject),
        (r#"{"cpu_usage":4"#, NotJson::Truncated),
        (r#"{"status":"heal"#, NotJson::Truncated),
        (r#"{"status":"heal\"#, NotJson::Truncated),
        (r#"{"x":[[[["#, NotJson::Truncated),
        (r#"{"x":NaN"#, NotJson::Truncated),
        ("{", NotJson::Truncated),
        (r#"{"cpu_usage":nan}"#, NotJson::Malformed { line: 1, column: 15 }),
        ("{\"uptime\":1}\n{}", NotJson::Malformed { line: 2, column: 1 }),
        ("{\"uptime\":01}", NotJson::Malformed { line: 1, column: 12 }),
    ] {
        assert_eq!(parse(body), Err(HealthError::NotJson(expected)), "{body:?}");
    }
    for body in ["", " \r\n\t"] {
        assert_eq!(parse(body), Ok(Health::default()), "{body:?}");
    }
    assert_eq!(parse(b"{\"status\":\"\xff\xfe\"}"), Err(NotJson::NotUtf8.into()));
}

#[test]
fn a_deep_unknown_field_is_ignored() {
    let depth = 30_000;
    let body = format!(r#"{{"x":{}{},"uptime":1}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(parse(&body).unwrap().uptime, Some(1.0));
}

#[test]
fn error_messages_do_not_repeat_the_body() {
    for body in ["{\"\u{1b}[31m\":EVIL}", "\"EVIL\"", "EVIL", r#"{"EVIL":1"#] {
        let message = parse(body).unwrap_err().to_string();
        assert!(!message.contains("EVIL") && !message.contains('\u{1b}'), "{message}");
    }
}

/// Mutations of responses that reach every branch: each result is an error or in bounds.
#[test]
fn mutated_responses_neither_panic_nor_exceed_bounds() {
    const SEEDS: [&[u8]; 9] = [
        br#"{"status":"healthy","cpu_usage":12.5,"memory_usage":99,"error_count":3,"uptime":1e3}"#,
        br#"{"uptime":-1,"error_count":1000000000,"cpu_usage":100.49,"memory_usage":null}"#,
        br#"{"a":{"b":[1,2,{"c":"\ud83d\ude00\u0000"}]},"status":"x","status":"y"}"#,
        br#"{"cpu_usage":[[[]]],"memory_usage":"9","error_count":true,"uptime":1e-400}"#,
        br#"{"status":"DOWN","components":{"db":{"status":"DOWN","details":{"a":[{}]}}}}"#,
        br#"{"status":"fail","checks":{"a:b":[{"status":"fail"}],"c":{"healthy":false}}}"#,
        br#"{"x":NaN,"y":[-Infinity,1e999,-1e999],"failures":{"a":1},"error":{"b":false}}"#,
        br#"{"Cache":"working","Database":"unavailable: no"}"#,
        b"SERVER_IS_SHUTTING_DOWN\n",
    ];
    const TOKENS: &[u8] = b"{}[]\",:0123456789.-+eE\\utfnNI\x00\xff\xc3 ";
    const CODES: [u16; 7] = [200, 204, 302, 400, 500, 502, 503];
    const TYPES: [&str; 3] = ["application/json", "text/plain", "application/health+json"];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut accepted = 0_u32;
    for round in 0..60_000 {
        let mut body = SEEDS[round % SEEDS.len()].to_vec();
        for _ in 0..=random(3) {
            let at = random(body.len());
            match random(4) {
                0 => body[at] = random(256) as u8,
                1 => body[at] = TOKENS[random(TOKENS.len())],
                2 => body.insert(at, TOKENS[random(TOKENS.len())]),
                _ => body.truncate(at.max(1)),
            }
        }
        let headers = [("content-type", TYPES[random(TYPES.len())])];
        let Ok(reading) = read(CODES[random(CODES.len())], &headers, &body) else { continue };
        let health = reading.health;
        accepted += 1;
        for percentage in [health.cpu_usage, health.memory_usage].into_iter().flatten() {
            assert!((0.0..=100.0).contains(&percentage), "{body:?}");
        }
        assert!(health.error_count.is_none_or(|n| n <= 1_000_000_000), "{body:?}");
        assert!(health.uptime.is_none_or(|s| (0.0..=315_576_000.0).contains(&s)), "{body:?}");
        if let Says::Blames(component) = health.says {
            let name = component.as_str();
            assert!(name.len() <= 64 && name.is_ascii(), "{body:?}");
            assert!(!name.contains(|c: char| c.is_ascii_control()), "{body:?}");
        }
    }
    assert!(accepted > 1000, "the mutations are too destructive to test anything: {accepted}");
}
