//! Status and body together, where the body is not a report in JSON or the status alone decides.
use super::super::dialect::tests::{all_say, blames, json, plain, read};
use super::*;

#[test]
fn a_4xx_without_a_failing_report_is_unreadable() {
    for body in [
        "",
        "error",
        r#"{"status":"error","message":"the header x-tenant is missing"}"#,
        r#"{"status":400,"title":"Bad Request"}"#,
        r#"{"status":"UP","components":{"db":{"status":"UP"}}}"#,
    ] {
        assert_eq!(json(400, body), Err(HealthError::StatusNotOk(400)), "{body}");
        assert_eq!(json(422, body), Err(HealthError::StatusNotOk(422)), "{body}");
        assert_eq!(json(429, body), Err(HealthError::TooOften(429)), "{body}");
    }
}

#[test]
fn a_5xx_without_a_report_is_judged_by_its_status() {
    for body in
        ["", "Service Unavailable", "<html>busy</html>", "{", "[1]", r#"{"state":"running"}"#]
    {
        for (code, says) in [
            (500, Says::Ill),
            (502, blames("upstream")),
            (503, Says::NotNow),
            (504, blames("upstream")),
            (505, Says::Ill),
            (599, Says::Ill),
        ] {
            let reading = read(code, &[], body).unwrap();
            assert_eq!(reading.health.says, says, "{code} {body}");
            assert!(reading.by_status_alone, "{code} {body}");
        }
        assert_eq!(json(501, body), Err(HealthError::NotFound(501)));
    }
}

#[test]
fn a_503_with_retry_after_is_not_now() {
    let headers = [("retry-after", "120")];
    for body in ["", "down", r#"{"status":"DOWN"}"#] {
        assert_eq!(read(503, &headers, body).unwrap().health.says, Says::NotNow, "{body}");
    }
    assert_eq!(read(500, &headers, "").unwrap().health.says, Says::Ill);
}

#[test]
fn a_good_report_with_a_5xx_is_a_warning() {
    all_say(&[
        (500, r#"{"status":"UP"}"#, Says::Warns),
        (502, r#"{"status":"UP"}"#, Says::Warns),
        (503, r#"{"status":"UP"}"#, Says::NotNow),
        (502, r#"{"status":"DOWN","checks":[{"name":"pg","status":"DOWN"}]}"#, blames("pg")),
    ]);
}

#[test]
fn plain_text_with_200() {
    for (body, says) in [
        ("OK", Says::Well),
        ("ok\n", Says::Well),
        ("Alive!\r\nuptime 12", Says::Well),
        ("pong", Says::Well),
        ("hello from pod 7", Says::Well),
        ("1", Says::Well),
        ("warn", Says::Warns),
        ("SERVER_IS_NOT_READY", Says::NotNow),
        ("draining", Says::NotNow),
        ("Under Maintenance", Says::NotNow),
        ("unhealthy", Says::Ill),
        ("DOWN", Says::Ill),
        ("critical.", Says::Ill),
        ("Unhealthy: database", Says::Warns),
        ("down for maintenance", Says::Warns),
    ] {
        assert_eq!(plain(200, body), Ok(says), "{body:?}");
    }
    let long = "all is well. ".repeat(30);
    assert_eq!(plain(200, &long), Err(NotJson::Prose.into()));
    assert_eq!(plain(200, "a\u{7}b"), Err(NotJson::NotObject.into()));
    // Express, Flask and PHP send every string as HTML: a known word counts nevertheless.
    let html = [("content-type", "text/html; charset=utf-8")];
    let says = |body: &str| read(200, &html, body).map(|reading| reading.health.says);
    assert_eq!(says("OK"), Ok(Says::Well));
    assert_eq!(says("Hello, World"), Err(NotJson::NotObject.into()));
    assert_eq!(says("<p>OK</p>"), Err(NotJson::Markup.into()));
    assert_eq!(says(r#"{"status":"degraded"}"#), Ok(Says::Warns));
    assert_eq!(read(200, &[], "Hello, World"), Err(NotJson::NotObject.into()));
}

#[test]
fn gzip_bodies_are_unpacked_and_other_encodings_refused() {
    use std::io::Write;
    let pack = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    let gzip = [("content-encoding", "gzip")];
    let ill = br#"{"status":"DOWN","checks":[{"name":"pg","status":"DOWN"}]}"#;
    let packed = pack(ill);
    assert_eq!(read(200, &gzip, &packed).unwrap().health.says, blames("pg"));
    assert_eq!(read(503, &gzip, &packed).unwrap().health.says, blames("pg"));
    assert_eq!(
        read(200, &[("content-encoding", "X-GZIP")], &packed).unwrap().health.says,
        blames("pg")
    );
    assert_eq!(
        read(200, &[("content-encoding", "identity")], ill).unwrap().health.says,
        blames("pg")
    );
    assert_eq!(read(204, &gzip, "").unwrap().health.says, Says::Well);

    let broken = HealthError::Packed(Packed::Broken);
    assert_eq!(read(200, &gzip, ill), Err(broken));
    for end in 1..packed.len() {
        assert_eq!(read(200, &gzip, &packed[..end]), Err(broken), "{end}");
        // A body that cannot be decompressed says nothing; its status counts.
        assert_eq!(read(503, &gzip, &packed[..end]).unwrap().health.says, Says::NotNow, "{end}");
    }
    let bomb = pack(&vec![b' '; 30_000_000]);
    assert!(bomb.len() < BODY_LIMIT);
    let too_large = HealthError::Packed(Packed::TooLarge);
    assert_eq!(read(200, &gzip, &bomb), Err(too_large));
    let unknown = HealthError::Packed(Packed::Unknown);
    for coding in ["br", "deflate", "gzip, gzip", "zstd"] {
        assert_eq!(read(200, &[("content-encoding", coding)], ill), Err(unknown), "{coding}");
    }
    assert_eq!(read(200, &[gzip[0], gzip[0]], &packed), Err(unknown));
}

#[test]
fn byte_order_marks_and_other_character_sets() {
    assert_eq!(json(200, "\u{feff}{\"status\":\"warn\"}"), Ok(Says::Warns));
    assert_eq!(plain(200, "\u{feff}DOWN"), Ok(Says::Ill));
    assert_eq!(json(200, "\u{feff}"), Ok(Says::Well));
    let utf16: Vec<u8> = "\u{feff}OK".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(read(200, &[], utf16), Err(NotJson::NotUtf8.into()));
    let latin = b"{\"status\":\"d\xe9grad\xe9\"}";
    assert_eq!(read(200, &[], latin), Err(NotJson::NotUtf8.into()));
    assert_eq!(read(500, &[], latin).unwrap().health.says, Says::Ill);
}

/// Spring hides the details by default, and ASP.NET sends one word.
#[test]
fn a_bad_word_with_a_503_is_vague_unless_an_own_part_is_named() {
    let read = |code, body: &str| {
        let health = read(code, &[], body).unwrap().health;
        assert_eq!(health.says, Says::Ill, "{code} {body}");
        health.is_vague
    };
    assert!(read(503, r#"{"status":"DOWN"}"#));
    assert!(read(503, "Unhealthy"));
    assert!(!read(503, r#"{"status":"DOWN","components":{"livenessState":{"status":"DOWN"}}}"#));
    assert!(!read(500, r#"{"status":"DOWN"}"#), "500 says I");
}
