//! One image as one archive for every runtime: an OCI image layout (containerd, kind, podman) and
//! at the same time what `docker load` takes, as `docker save` itself writes it since Docker 25.
//! `index.json` and `manifest.json` lead to the same blobs.
use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::layer::{self, Entry};
use crate::arch::Arch;

/// What an image is made of, for one architecture.
pub(super) struct Content {
    pub(super) arch: Arch,
    /// Its full name, `docker.io/paramedic/agent:0.1.0`.
    pub(super) reference: String,
    pub(super) tag: &'static str,
    pub(super) title: String,
    pub(super) description: &'static str,
    pub(super) entrypoint: String,
    /// Uid and gid: with a name, the kubelet could not verify that it is not root.
    pub(super) user: &'static str,
    pub(super) port: u16,
    /// The root, as an uncompressed tar archive.
    pub(super) layer: Vec<u8>,
}

/// The origin of an image, for its labels.
pub(super) struct Origin {
    /// As in RFC 3339.
    pub(super) created: String,
    /// The commit, if there is one.
    pub(super) revision: Option<String>,
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The archive's bytes: an image for one architecture, or an index of the same for several, the first
/// of which is the one that engines without indexes load.
pub(super) fn write(contents: &[Content], origin: &Origin) -> Result<Vec<u8>> {
    let mut blobs = Blobs::default();
    let images = contents.iter().map(|content| add(&mut blobs, content, origin));
    let images = images.collect::<Result<Vec<_>>>()?;
    let first = images.first().context("an archive without an image")?;
    let for_docker = json!([{
        "Config": first.config, "RepoTags": [first.reference], "Layers": [first.layer],
    }]);
    let annotations = json!({
        "io.containerd.image.name": first.reference,
        "org.opencontainers.image.created": origin.created,
        "org.opencontainers.image.ref.name": first.tag,
    });
    let manifests: Vec<Descriptor> = images.into_iter().map(|image| image.manifest).collect();
    let mut named = match <[Descriptor; 1]>::try_from(manifests) {
        Ok([manifest]) => manifest,
        Err(manifests) => blobs.add_json(INDEX, &index(&manifests))?,
    };
    named.annotations = Some(annotations);
    let index = index(&[named]);
    let layout = json!({ "imageLayoutVersion": "1.0.0" });
    let mut entries: Vec<_> =
        blobs.0.iter().map(|(path, bytes)| Entry::file(path, bytes)).collect();
    for (path, value) in
        [("index.json", index), ("manifest.json", for_docker), ("oci-layout", layout)]
    {
        entries.push(Entry::file(path, &serde_json::to_vec(&value)?));
    }
    layer::write(entries)
}

fn index(manifests: &[Descriptor]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests })
}

/// One image among the blobs.
struct Added<'a> {
    manifest: Descriptor,
    reference: &'a str,
    tag: &'a str,
    /// Their places in the archive.
    config: String,
    layer: String,
}

fn add<'a>(blobs: &mut Blobs, content: &'a Content, origin: &Origin) -> Result<Added<'a>> {
    let layer = blobs.add(LAYER, content.layer.clone());
    // Not compressed: the digest of the blob is that of its content.
    let config = blobs.add_json(CONFIG, &config(content, origin, &layer.digest))?;
    let (config_path, layer_path) = (config.path(), layer.path());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
    });
    let mut manifest = blobs.add_json(MANIFEST, &manifest)?;
    manifest.platform = Some(platform(content.arch));
    Ok(Added {
        manifest,
        reference: &content.reference,
        tag: content.tag,
        config: config_path,
        layer: layer_path,
    })
}

/// What a runtime chooses from an index by. Without a variant: containerd takes `v8` for arm64.
fn platform(arch: Arch) -> Value {
    json!({ "architecture": arch.name(), "os": "linux" })
}

/// The configuration for a runtime. `diff_id` is the layer's digest.
pub(super) fn config(content: &Content, origin: &Origin, diff_id: &str) -> Value {
    let port = format!("{}/tcp", content.port);
    json!({
        "created": origin.created,
        "architecture": content.arch.name(),
        "os": "linux",
        "config": {
            "User": content.user,
            "ExposedPorts": { port: {} },
            // For `kubectl exec POD -- kill 1`.
            "Env": ["PATH=/:/bin"],
            "Entrypoint": [content.entrypoint],
            "WorkingDir": "/",
            "Labels": labels(content, origin),
        },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created": origin.created, "created_by": "cargo xtask image" }],
    })
}

fn labels(content: &Content, origin: &Origin) -> Value {
    let labels = [
        ("title", Some(content.title.as_str())),
        ("description", Some(content.description)),
        ("version", Some(content.tag)),
        ("licenses", Some(env!("CARGO_PKG_LICENSE"))),
        ("created", Some(origin.created.as_str())),
        ("revision", origin.revision.as_deref()),
    ];
    let known = |(name, value): (&str, Option<&str>)| {
        Some((format!("org.opencontainers.image.{name}"), value?.into()))
    };
    Value::Object(labels.into_iter().filter_map(known).collect())
}

/// The descriptor of a blob: type, size and digest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Value>,
}

impl Descriptor {
    /// Its place in the archive.
    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replacen(':', "/", 1))
    }
}

/// The blobs by their place in the archive.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    fn add(&mut self, media_type: &'static str, bytes: Vec<u8>) -> Descriptor {
        let (digest, size) = (digest(&bytes), bytes.len());
        let found = Descriptor { media_type, digest, size, platform: None, annotations: None };
        self.0.insert(found.path(), bytes);
        found
    }

    fn add_json(&mut self, media_type: &'static str, value: &Value) -> Result<Descriptor> {
        Ok(self.add(media_type, serde_json::to_vec(value)?))
    }
}

/// `sha256:` and the hash in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

/// The SHA-256 in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
