//! Answers of gRPC servers, by their code and their message.
use http::{
    HeaderMap, StatusCode,
    header::{self, HeaderValue},
};

use super::{
    super::grpc::{Answer, Code, LONGEST_SERVICE, is_service, read, request},
    *,
};
use crate::boot_time::BootTime;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (header::HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    pairs.iter().map(pair).collect()
}

fn answer(code: &'static str, body: &[u8]) -> Answer {
    Answer {
        status: StatusCode::OK,
        headers: headers(&[("content-type", "application/grpc")]),
        code: Code::of(&headers(&[("grpc-status", code)])),
        body: body.to_vec(),
    }
}

/// A message with its prefix.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), message].concat()
}

fn says(message: &[u8]) -> Result<Says, HealthError> {
    read(&answer("0", &framed(message))).map(|reading| reading.health.says)
}

#[test]
fn the_message_is_the_word_of_the_service() {
    assert_eq!(read(&answer("0", &framed(&[8, 1]))).unwrap(), Health::default().into());
    let not_serving = read(&answer("0", &framed(&[8, 2]))).unwrap();
    assert_eq!(not_serving.health.says, Says::Ill);
    assert!(not_serving.health.is_vague, "it names no cause, like a 503 with `DOWN`");
    assert!(!not_serving.by_status_alone);
    assert_eq!(says(&[8, 3]), Err(GrpcError::NoService(code("5")).into()));
    for unset in [&[][..], &[8, 0], &[8, 4], &[8, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
        assert_eq!(says(unset), Err(GrpcError::NoWord.into()), "{unset:?}");
    }
}

fn code(text: &'static str) -> Code {
    Code::of(&headers(&[("grpc-status", text)])).unwrap()
}

#[test]
fn unknown_fields_are_skipped_and_the_last_status_counts() {
    for message in [
        &[8, 2, 8, 1][..],
        &[16, 0x80, 1, 8, 1],
        &[8, 1, 18, 2, 8, 2],
        &[8, 1, 29, 0, 0, 0, 0],
        &[8, 1, 33, 0, 0, 0, 0, 0, 0, 0, 0],
        &[8, 0x81, 0x80, 0],
    ] {
        assert_eq!(says(message), Ok(Says::Well), "{message:?}");
    }
}

#[test]
fn malformed_messages_are_refused() {
    let malformed = Err(GrpcError::Malformed.into());
    for message in [
        &[8][..],
        &[8, 0x80],
        &[0x80],
        &[0, 1],
        &[10, 1, 1],
        &[9, 0, 0, 0, 0, 0, 0, 0, 0],
        &[11],
        &[12],
        &[15, 1],
        &[18, 5, 1],
        &[18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        &[29, 0],
        &[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
    ] {
        assert_eq!(says(message), malformed, "{message:?}");
    }
    let good = framed(&[8, 1]);
    for end in 0..good.len() {
        let cut = read(&answer("0", &good[..end]));
        assert_eq!(cut.map(|reading| reading.health.says), malformed, "{end}");
    }
    let mut compressed = good.clone();
    compressed[0] = 1;
    let trailing = [good.as_slice(), b"x"].concat();
    let twice = [good.as_slice(), &good].concat();
    let endless = [&[0, 0xff, 0xff, 0xff, 0xff][..], &[8, 1]].concat();
    for body in [compressed, trailing, twice, endless] {
        assert_eq!(read(&answer("0", &body)).unwrap_err(), GrpcError::Malformed.into());
    }
}

/// Each byte of a message, at random, ends in a reading or in an error.
#[test]
fn random_messages_are_read_or_refused() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let message: Vec<u8> = (0..random.usize(0..12)).map(|_| random.u8(0..40)).collect();
        let _ = says(&message);
        let _ = read(&answer("0", &message));
    }
}

#[test]
fn codes_are_read_like_their_http_statuses() {
    let answered = |code| read(&answer(code, b""));
    for (code, word) in [
        ("2", Says::Ill),
        ("13", Says::Ill),
        ("15", Says::Ill),
        ("14", Says::NotNow),
        ("4", Says::Blames(Component::new("upstream"))),
        // Codes that do not exist are UNKNOWN.
        ("17", Says::Ill),
        ("-1", Says::Ill),
        ("256", Says::Ill),
        ("", Says::Ill),
        ("twelve", Says::Ill),
    ] {
        let reading = answered(code).unwrap();
        assert_eq!((reading.health.says, reading.by_status_alone), (word, true), "{code}");
    }
    for (code, name) in [
        ("5", "not_found"),
        ("12", "not_found"),
        ("7", "refused"),
        ("16", "refused"),
        ("8", "too_often"),
        ("1", "status_not_ok"),
        ("3", "status_not_ok"),
        ("6", "status_not_ok"),
        ("9", "status_not_ok"),
        ("10", "status_not_ok"),
        ("11", "status_not_ok"),
    ] {
        let error = answered(code).unwrap_err();
        assert_eq!(error.name(), name, "{code}");
        assert!(error.is_answer() && !error.is_silence(), "{code}: it lives");
    }
    assert!(answered("12").unwrap_err().to_string().contains("(UNIMPLEMENTED)"));
}

/// As `Verdict::of` in `paramedic_protocol`, which the kernel side counts by.
#[test]
fn faults_are_those_that_the_kernel_counts() {
    let faults = |text| Code::of(&headers(&[("grpc-status", text)])).unwrap().fault();
    for (text, status) in
        [("2", 500), ("4", 504), ("12", 501), ("13", 500), ("14", 503), ("15", 500)]
    {
        assert_eq!(faults(text).unwrap().as_u16(), status, "{text}");
    }
    for text in ["0", "1", "3", "5", "6", "7", "8", "9", "10", "11", "16"] {
        assert_eq!(faults(text), None, "{text}");
    }
}

#[test]
fn without_a_code_the_http_status_counts() {
    let read = |status, kind: &'static str| {
        let status = StatusCode::from_u16(status).unwrap();
        let headers = headers(&[("content-type", kind)]);
        read(&Answer { status, headers, code: None, body: Vec::new() })
    };
    assert_eq!(read(200, "application/grpc"), Err(GrpcError::Malformed.into()));
    assert_eq!(read(200, "application/grpc+proto"), Err(GrpcError::Malformed.into()));
    assert_eq!(read(200, "text/html"), Err(GrpcError::NotGrpc.into()));
    assert_eq!(read(204, "application/grpc"), Err(GrpcError::NotGrpc.into()));
    assert_eq!(read(404, "text/html"), Err(HealthError::NotFound(404)));
    assert_eq!(read(415, "text/html"), Err(HealthError::StatusNotOk(415)));
    assert_eq!(read(503, "text/html").unwrap().health.says, Says::NotNow);
    assert_eq!(read(500, "text/html").unwrap().health.says, Says::Ill);
}

#[test]
fn a_request_names_the_service() {
    assert_eq!(request(""), [0; 5]);
    assert_eq!(request("a.B"), [&[0, 0, 0, 0, 5, 10, 3][..], b"a.B"].concat());
    let long = "s".repeat(LONGEST_SERVICE);
    let message = request(&long);
    assert_eq!(message[..8], [0, 0, 0, 1, 3, 10, 0x80, 2]);
    assert_eq!(&message[8..], long.as_bytes());
    assert!(is_service("") && is_service("shop.v1.Shop") && is_service(&long));
    assert!(!is_service("a b") && !is_service("ä") && !is_service(&format!("{long}s")));
}

#[test]
fn an_answer_that_is_no_fault_shows_that_it_serves() {
    let poll = |responses, in_trailers, result| Poll {
        responses,
        in_trailers,
        ..Poll::for_tests(BootTime::default(), result)
    };
    let none = Err(GrpcError::NoService(code("12")).into());
    assert!(poll([0, 0, 0, 0, 1], 0, none.clone()).is_served(), "UNIMPLEMENTED is like a 404");
    assert!(poll([0, 1, 0, 0, 1], 1, none).is_served());
    assert!(poll([0, 1, 0, 0, 0], 0, Ok(Health::default())).is_served());
    let ill = Ok(Health { says: Says::Ill, ..Health::default() });
    assert!(!poll([0, 1, 0, 0, 1], 1, ill.clone()).is_served(), "a head, then INTERNAL");
    assert!(!poll([0, 0, 0, 0, 1], 0, ill).is_served());
    assert!(!poll([0; 5], 0, Err(Transport::Timeout.into())).is_served());
}
