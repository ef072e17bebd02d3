//! The blocks of shell in README.md and docs/. Each is tagged with what it asks for, and those of one
//! tag are one session, as the guide's reader has it.
use std::{fs, path::Path};

use anyhow::{Context, Result};

/// A block of shell in a guide.
#[derive(Debug, PartialEq)]
pub(crate) struct Block {
    pub(crate) line: usize,
    pub(crate) tag: String,
    script: String,
}

/// All blocks of a guide.
pub(crate) fn read(guide: &Path) -> Result<Vec<Block>> {
    let text =
        fs::read_to_string(guide).with_context(|| format!("cannot read {}", guide.display()))?;
    Ok(blocks(&text))
}

/// The commands of all blocks with this tag, in order.
pub(crate) fn session(blocks: &[Block], tag: &str) -> String {
    let tagged = blocks.iter().filter(|block| block.tag == tag);
    tagged.map(|block| block.script.as_str()).collect()
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut other = false;
    for (number, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (fence, open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(_), None) if other => other = false,
            (Some(info), None) => match info.split_once(' ').unwrap_or((info, "")) {
                ("sh" | "bash" | "shell" | "console", tag) => {
                    let tag = tag.trim().to_owned();
                    open = Some(Block { line: number + 1, tag, script: String::new() });
                }
                _ => other = true,
            },
            (None, Some(mut block)) => {
                block.script += line;
                block.script += "\n";
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_their_tags() {
        let text = "a\n```sh test\nls\n# ls\n```\n```yaml\n```\n```sh\nrm\n```\n";
        let block = |line, tag: &str, script: &str| Block {
            line,
            tag: tag.to_owned(),
            script: script.to_owned(),
        };
        let found = blocks(text);
        assert_eq!(found, [block(2, "test", "ls\n# ls\n"), block(8, "", "rm\n")]);
        assert_eq!(session(&found, "test"), "ls\n# ls\n");
    }
}
