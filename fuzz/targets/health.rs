//! One response of a health check: its status, its headers and its body.
//!
//! An input is text: the status, a line for each header, an empty line, and the body.
#![no_main]
use http::{
    HeaderMap, StatusCode,
    header::{HeaderName, HeaderValue},
};
use libfuzzer_sys::{Corpus, fuzz_target};
use paramedic_core::health::{
    BODY_LIMIT, Health, HealthError, Says,
    classify::{Answer, read},
};

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(answer) = answer(input) else { return Corpus::Reject };
    let reading = read(&answer);
    assert_eq!(reading, read(&answer), "the same response means the same");
    match &reading {
        Ok(reading) => {
            check(&reading.health);
            let code = answer.status.as_u16();
            assert!(matches!(code, 200..=299 | 400..=599), "HTTP {code} is read");
            assert!(!reading.by_status_alone || code >= 500);
            let evident = code >= 400 || !answer.body.is_empty();
            assert!(
                evident || reading.health == Health::default(),
                "{:?} of nothing",
                reading.health
            );
        }
        Err(HealthError::Transport(error)) => panic!("{error}, though the response is complete"),
        // The app's words stay out of the agent's log.
        Err(error) => assert!(error.to_string().len() < 300, "{error}"),
    }
    Corpus::Keep
});

fn answer(input: &[u8]) -> Option<Answer> {
    let end = input.windows(2).position(|pair| pair == b"\n\n")?;
    let (head, body) = (&input[..end], &input[end + 2..]);
    let mut lines = head.split(|byte| *byte == b'\n');
    let status = StatusCode::from_bytes(lines.next()?).ok()?;
    let mut headers = HeaderMap::new();
    for line in lines.take(100) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    let body = body[..body.len().min(BODY_LIMIT)].to_vec();
    Some(Answer { status, headers, body })
}

fn check(health: &Health) {
    let percent = |value: Option<f32>| value.is_none_or(|value| (0.0..=100.0).contains(&value));
    assert!(percent(health.cpu_usage) && percent(health.memory_usage), "{health:?}");
    assert!(health.error_count.is_none_or(|count| count <= 1_000_000_000), "{health:?}");
    assert!(health.uptime.is_none_or(|up| (0.0..=3.2e8).contains(&up)), "{health:?}");
    if let Says::Blames(component) = &health.says {
        let name = component.as_str();
        let printable = name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        assert!(name.len() <= 64 && printable, "{name:?}");
    }
}
