use std::{collections::BTreeMap, io::Read as _, os::unix::fs::PermissionsExt as _, slice};

use serde_json::Value;

use super::*;

type Files = BTreeMap<String, Vec<u8>>;

fn built(image: Image) -> Vec<u8> {
    let origin = Origin { created: "2023-11-14T22:13:20Z".into(), revision: Some("c0ffee".into()) };
    archive::write(&[content(image, Arch::Amd64)], &origin).unwrap()
}

fn content(image: Image, arch: Arch) -> archive::Content {
    image.content(arch, arch.name().as_bytes(), Vec::new()).unwrap()
}

/// The files of an archive, whose entries must be anonymous and in order.
fn files(bytes: &[u8]) -> Files {
    let mut archive = tar::Archive::new(bytes);
    let mut files = Files::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
        assert_eq!((uid, gid, header.mtime().unwrap()), (0, 0, 0));
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        assert!(files.last_key_value().is_none_or(|(last, _)| *last < path), "{path}: no order");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(path, content);
    }
    files
}

fn json(files: &Files, path: &str) -> Value {
    serde_json::from_slice(&files[path]).unwrap()
}

/// The blob that a descriptor leads to, after its digest and size were checked.
fn follow<'a>(files: &'a Files, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"].as_str().unwrap();
    let blob = &files[&format!("blobs/{}", digest.replace(':', "/"))];
    assert_eq!(archive::digest(blob), digest);
    assert_eq!(descriptor["size"], blob.len());
    blob
}

#[test]
fn the_digest_is_sha_256() {
    let known = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(archive::digest(b"abc"), known);
}

#[test]
fn the_same_binary_gives_the_same_bytes() {
    for image in Image::ALL {
        assert!(built(image) == built(image), "{image:?}");
    }
}

#[test]
fn both_indexes_lead_to_the_same_blobs() {
    for image in Image::ALL {
        let files = files(&built(image));
        assert_eq!(json(&files, "oci-layout")["imageLayoutVersion"], "1.0.0");
        let index = &json(&files, "index.json")["manifests"];
        let name = &index[0]["annotations"]["io.containerd.image.name"];
        let manifest: Value = serde_json::from_slice(follow(&files, &index[0])).unwrap();
        let config: Value = serde_json::from_slice(follow(&files, &manifest["config"])).unwrap();
        let layer = follow(&files, &manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], archive::digest(layer));

        let for_docker = &json(&files, "manifest.json")[0];
        let at = |key: &str| for_docker[key].as_str().map(|path| files[path].as_slice());
        assert_eq!(at("Config"), Some(follow(&files, &manifest["config"])));
        assert_eq!(files[for_docker["Layers"][0].as_str().unwrap()], layer);
        assert_eq!(for_docker["RepoTags"][0], *name);
        assert_eq!(*name, format!("docker.io/paramedic/{}:{VERSION}", image.name()));
    }
}

#[test]
fn an_index_has_an_image_for_each_architecture() {
    let origin = Origin { created: "2023-11-14T22:13:20Z".into(), revision: None };
    let contents = Arch::ALL.map(|arch| content(Image::Agent, arch));
    let files = files(&archive::write(&contents, &origin).unwrap());
    let named = &json(&files, "index.json")["manifests"];
    assert_eq!(named.as_array().unwrap().len(), 1);
    assert_eq!(named[0]["mediaType"], "application/vnd.oci.image.index.v1+json");
    let name = &named[0]["annotations"]["io.containerd.image.name"];
    assert_eq!(*name, format!("docker.io/paramedic/agent:{VERSION}"));
    let index: Value = serde_json::from_slice(follow(&files, &named[0])).unwrap();
    for (arch, descriptor) in Arch::ALL.into_iter().zip(index["manifests"].as_array().unwrap()) {
        assert_eq!(descriptor["platform"]["architecture"], arch.name());
        let manifest: Value = serde_json::from_slice(follow(&files, descriptor)).unwrap();
        let config: Value = serde_json::from_slice(follow(&files, &manifest["config"])).unwrap();
        assert_eq!(config["architecture"], arch.name());
        let root = self::files(follow(&files, &manifest["layers"][0]));
        assert_eq!(root["paramedic"], arch.name().as_bytes());
    }
    let for_docker = json(&files, "manifest.json");
    let config = json(&files, for_docker[0]["Config"].as_str().unwrap());
    assert_eq!(
        (for_docker.as_array().unwrap().len(), &config["architecture"]),
        (1, &"amd64".into())
    );
}

#[test]
fn the_architectures_are_in_an_archives_name_if_they_were_given() {
    let name = |archs: &[Arch]| Image::Agent.file(&format!("{}.tar", suffix(archs)));
    assert_eq!(name(&[]), format!("paramedic-agent-{VERSION}.tar"));
    assert_eq!(name(&[Arch::Arm64]), format!("paramedic-agent-{VERSION}-arm64.tar"));
    assert_eq!(name(&Arch::ALL), format!("paramedic-agent-{VERSION}-amd64-arm64.tar"));
}

fn config_and_root(image: Image) -> (Value, Files) {
    let archive = files(&built(image));
    let config = json(&archive, json(&archive, "manifest.json")[0]["Config"].as_str().unwrap());
    let layer = json(&archive, "manifest.json")[0]["Layers"][0].as_str().unwrap().to_owned();
    (config, files(&archive[&layer]))
}

#[test]
fn the_agent_is_alone_in_its_image() {
    let (config, root) = config_and_root(Image::Agent);
    assert_eq!(root.into_keys().collect::<Vec<_>>(), ["etc/", "etc/passwd", "paramedic"]);
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    let config = &config["config"];
    assert_eq!(config["Entrypoint"][0], "/paramedic");
    assert_eq!(config["ExposedPorts"], serde_json::json!({ "9100/tcp": {} }));
}

#[test]
fn the_patient_is_not_root_and_brings_a_kill() {
    let (config, root) = config_and_root(Image::Patient);
    let paths = ["bin/", "bin/kill", "etc/", "etc/passwd", "patient-app"];
    assert_eq!(root.into_keys().collect::<Vec<_>>(), paths);
    assert_eq!(config["config"]["User"], "10001:10001");
    assert_eq!(config["config"]["Env"][0], "PATH=/:/bin");
}

#[test]
fn labels_tell_what_it_is_and_where_it_comes_from() {
    for (image, package) in [
        (Image::Agent, "agent"),
        (Image::MetricsApi, "crates/metrics-api"),
        (Image::Policy, "crates/policy"),
        (Image::Patient, "patient-app"),
    ] {
        let (config, _) = config_and_root(image);
        let label = |name| &config["config"]["Labels"][format!("org.opencontainers.image.{name}")];
        assert_eq!(label("version"), VERSION);
        assert_eq!(label("licenses"), "Apache-2.0");
        assert_eq!(label("revision"), "c0ffee");
        assert_eq!(label("created"), &config["created"]);
        let file = Workspace::find().unwrap().root.join(package).join("Cargo.toml");
        let description = format!("\ndescription = {}\n", label("description"));
        assert!(fs::read_to_string(file).unwrap().contains(&description), "{description}");
    }
}

#[test]
fn without_a_commit_no_revision_is_made_up() {
    let content = content(Image::Agent, Arch::Amd64);
    let origin = Origin { created: "1970-01-01T00:00:00Z".into(), revision: None };
    let labels = &archive::config(&content, &origin, "")["config"]["Labels"];
    assert_eq!(labels.as_object().unwrap().len(), 5, "{labels}");
}

#[test]
fn the_revision_is_a_whole_hash() {
    let origin = origin(&Workspace::find().unwrap()).unwrap();
    let revision = origin.revision.unwrap();
    let hash = revision.strip_suffix("-dirty").unwrap_or(&revision);
    assert!(hash.len() == 40 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{revision}");
}

#[test]
fn an_image_that_is_too_large_is_refused() {
    for (image, limit) in [
        (Image::Agent, 32_000_000),
        (Image::MetricsApi, 12_000_000),
        (Image::Policy, 12_000_000),
        (Image::Patient, 10_000_000),
    ] {
        image.check(limit).unwrap();
        let error = image.check(limit + 1).unwrap_err().to_string();
        assert!(error.contains(&format!("{} bytes, and may have {limit}", limit + 1)), "{error}");
    }
}

#[test]
fn a_root_folder_holds_what_the_image_does() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(Image::Patient, Arch::Amd64);
    Image::Patient.unpack(&content, folder.path()).unwrap();
    let root = folder.path().join("patient");
    assert_eq!(fs::read_link(root.join("bin/kill")).unwrap(), Path::new("/patient-app"));
    assert_eq!(fs::read(root.join("patient-app")).unwrap(), b"amd64");
    let mode = fs::metadata(root.join("patient-app")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    assert!(Image::Patient.unpack(&content, folder.path()).is_err());
}

#[test]
fn every_way_to_load_names_every_archive() {
    let text = how_to_load(&["a.tar".into(), "b.tar".into()]);
    for command in ["docker load --input", "kind load image-archive", "images import"] {
        assert!(text.contains(&format!("{command} a.tar\n  ")), "{text}");
        assert!(text.contains(&format!("{command} b.tar\n")), "{text}");
    }
}

#[test]
fn an_ordinary_build_comes_with_its_libraries() {
    let workspace = Workspace::find().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (sh, library) = (process::on_path("sh").unwrap(), process::on_path("ls").unwrap());
    let library = library.canonicalize().unwrap();
    let archive =
        of_program(&workspace, folder.path(), Image::Agent, &sh, slice::from_ref(&library));
    let archive = files(&fs::read(archive.unwrap()).unwrap());
    let layer = json(&archive, "manifest.json")[0]["Layers"][0].as_str().unwrap().to_owned();
    let root = files(&archive[&layer]);
    let place = library.strip_prefix("/").unwrap().to_str().unwrap();
    assert!(root.contains_key("paramedic") && root.contains_key(place), "{:?}", root.keys());
}
