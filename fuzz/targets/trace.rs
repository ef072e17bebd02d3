//! A trace that is read back and replayed with the shipped model.
//!
//! An input is the text of a trace, or gzip as it is.
#![no_main]
use std::{
    io::Write as _,
    path::Path,
    sync::{Arc, LazyLock},
};

use flate2::{Compression, write::GzEncoder};
use libfuzzer_sys::fuzz_target;
use paramedic::replay::{Player, Seen, Told, Trial};
use paramedic_core::decide::{Classifier, Decision};
use paramedic_record::trace::{Line, Reader, TraceError};

static CLASSIFIER: LazyLock<Arc<Classifier>> = LazyLock::new(|| Arc::new(Classifier::embedded()));

fuzz_target!(|input: &[u8]| {
    let bytes = if input.starts_with(&[0x1f, 0x8b]) { input.to_vec() } else { packed(input) };
    let _ = play(&bytes);
});

fn packed(text: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(text).unwrap();
    gzip.finish().unwrap()
}

fn play(bytes: &[u8]) -> Result<(), TraceError> {
    let mut reader = Reader::new(Path::new("x"), bytes)?;
    let mut player = Player::new(Arc::clone(&CLASSIFIER), Trial::default());
    player.part(&reader.header);
    let mut before = reader.header.boot_ns;
    while let Some(line) = reader.next_line()? {
        assert!(line.0 >= before, "time does not go back");
        before = line.0;
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        player.take(line, |why| reader.wrong(why), &mut |told| check(&told))?;
    }
    player.ended(reader.is_truncated());
    let _ = player.summary().difference();
    Ok(())
}

fn check(told: &Told<'_>) {
    if let Seen::Row { row, decision, .. } = told.what {
        assert!(row.is_finite(), "{row:?}");
        let Decision { confidence, probabilities, .. } = decision;
        assert!((0.0..=1.0).contains(confidence), "{decision:?}");
        assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-3, "{decision:?}");
    }
}
