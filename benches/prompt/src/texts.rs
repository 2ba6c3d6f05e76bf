//! Texts to tokenize: from what lies on every machine that builds this, or made up.
//!
//! Prose is the Rust documentation installed with the toolchain and the Markdown of
//! the repository and of the crates it was built from; code is Rust, of the repository
//! and of those crates. The rest is drawn from lists of words with fixed seeds.

use std::path::{Path, PathBuf};

/// Bytes that every kind has at least.
const ENOUGH: usize = 1_500 << 10;

/// Numbers that look random, the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }

    pub(crate) fn of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }

    /// Early members of a list far more often than late ones, as words are used.
    fn often<'a>(&mut self, list: &[&'a str]) -> &'a str {
        let bound = self.below(list.len()) + 1;
        list[self.below(bound)]
    }
}

const CHINESE: &str = "的 是 在 了 和 我们 可以 一个 这个 使用 系统 数据 请求 模型 缓存 因为 所以 如果 需要 时候 已经 没有 问题 进行 通过 服务 用户 \
    信息 时间 工作 开始 结果 方法 文件 网络 内存 处理 提供 支持 选择 不同 情况 应该 之间 以及 其中 包括 根据 由于 但是 而且 或者 然后 这样 那么 非常 \
    重要 主要 许多 部分 世界 中国 发展 社会 经济 技术 研究 学习 生活 历史 文化 教育 国家 城市 人们 东西 朋友 老师 学生 今天 明天 昨天 早上 晚上 天气 北京 上海";
const JAPANESE: &str = "の は を に が と です ます した する こと もの これ それ この その ため から まで より として について システム データ \
    リクエスト モデル キャッシュ メモリ サーバー ユーザー 使用 必要 場合 時間 結果 方法 問題 情報 処理 開発 技術 研究 日本 東京 今日 明日 学生 先生 会社 世界 文化";
const OTHERS: &str = "система данные запрос время можно который после также память сервер пользователь результат \
    الذي هذا على إلى من في بيانات النظام वह है और में लिए डेटा समय प्रणाली 데이터 시스템 요청 모델 사용자 시간 결과 และ ใน ที่ ระบบ ข้อมูล données système être avec für über größer años también \
    😀 🚀 👍🏽 ✅ é ñ";

/// The kinds by name.
pub(crate) fn kinds(root: &Path) -> Vec<(&'static str, String)> {
    let (prose, code) = (prose(root), code(root));
    let (json, cjk) = (json(&prose), cjk());
    let chat = chat(&prose, &code, &json, &cjk);
    vec![("prose", prose), ("code", code), ("json", json), ("cjk", cjk), ("chat", chat)]
}

fn prose(root: &Path) -> String {
    let mut text = String::new();
    let documents = sysroot().map(|sysroot| sysroot.join("share/doc/rust/html"));
    for part in ["book", "reference", "cargo", "nomicon"] {
        let folder = documents.iter().map(|documents| documents.join(part));
        folder.for_each(|folder| gather(&folder, "html", &mut text, strip));
    }
    gather(&root.join("docs"), "md", &mut text, str::to_owned);
    crates(&mut text, "md");
    text
}

fn code(root: &Path) -> String {
    let mut text = String::new();
    for folder in ["indexer/src", "filter/src", "crates"] {
        gather(&root.join(folder), "rs", &mut text, str::to_owned);
    }
    crates(&mut text, "rs");
    text
}

fn sysroot() -> Option<PathBuf> {
    let output = std::process::Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

/// The sources of the crates that cargo has unpacked.
fn crates(text: &mut String, ending: &str) {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    if let Some(home) = home {
        gather(&home.join("registry/src"), ending, text, str::to_owned);
    }
}

/// Files of this ending in and below a folder, in the order of their names, until
/// there is enough.
fn gather(folder: &Path, ending: &str, text: &mut String, read: fn(&str) -> String) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    for path in paths {
        if text.len() >= ENOUGH {
            return;
        }
        if path.is_dir() {
            gather(&path, ending, text, read);
        } else if path.extension().is_some_and(|found| found == ending)
            && let Ok(content) = std::fs::read_to_string(&path)
        {
            text.push_str(&read(&content));
        }
    }
}

/// HTML without its tags and without what is no text.
fn strip(html: &str) -> String {
    let body = html.split_once("<main>").map_or("", |(_, body)| body);
    let body = body.split_once("</main>").map_or(body, |(body, _)| body);
    let mut text = String::new();
    for part in body.split('<') {
        text.push_str(part.split_once('>').map_or(part, |(_, text)| text));
    }
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

fn json(prose: &str) -> String {
    let words: Vec<&str> =
        prose.split_whitespace().filter(|word| word.chars().all(char::is_alphanumeric)).collect();
    let mut random = Random::new(3);
    let mut text = String::new();
    while text.len() < ENOUGH {
        let some = |random: &mut Random, count| {
            (0..count).map(|_| random.of(&words)).collect::<Vec<_>>().join(" ")
        };
        let (name, note) = (some(&mut random, 2), some(&mut random, 12));
        let value = serde_json::json!({
            "id": random.below(1 << 30),
            "name": name,
            "price": random.below(100_000) as f64 / 100.0,
            "tags": [random.of(&words), random.of(&words)],
            "active": random.below(2) == 0,
            "position": {"latitude": random.below(9_000_000) as f64 / 1e5, "longitude": null},
            "note": note,
        });
        let line = if random.below(2) == 0 {
            value.to_string()
        } else {
            serde_json::to_string_pretty(&value).unwrap_or_default()
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn cjk() -> String {
    let lists: [Vec<&str>; 2] = [CHINESE, JAPANESE].map(|list| list.split_whitespace().collect());
    let mut random = Random::new(5);
    let mut text = String::new();
    while text.len() < ENOUGH {
        let list = &lists[usize::from(random.below(3) == 0)];
        for _ in 0..4 + random.below(12) {
            text.push_str(random.often(list));
            if random.below(6) == 0 {
                text.push('，');
            }
        }
        text.push_str(random.of(&["。", "。", "。\n", "？", "！", "（2026 年 11 月）", " API "]));
    }
    text
}

/// Turns of ChatML: three fifths prose, a fifth code, the rest JSON and other scripts.
fn chat(prose: &str, code: &str, json: &str, cjk: &str) -> String {
    let others: Vec<&str> = OTHERS.split_whitespace().collect();
    let mut random = Random::new(9);
    // From their ends, so that chat is not what the other kinds have shown already.
    let mut sources =
        [(prose, 30), (code, 11), (json, 5), (cjk, 2)].map(|(text, share)| (tail(text), share));
    let mut text = String::new();
    let mut user = true;
    while text.len() < ENOUGH {
        text.push_str(if user { "<|im_start|>user\n" } else { "<|im_start|>assistant\n" });
        let mut draw = random.below(50);
        if draw >= 48 {
            (0..80).for_each(|_| {
                text.push_str(random.of(&others));
                text.push(' ');
            });
        }
        for (source, share) in &mut sources {
            if draw < *share {
                let mut at = (200 + random.below(2_000)).min(source.len());
                while !source.is_char_boundary(at) {
                    at += 1;
                }
                let (piece, rest) = source.split_at(at);
                text.push_str(piece);
                *source = rest;
                break;
            }
            draw -= *share;
        }
        text.push_str("<|im_end|>\n");
        user = !user;
    }
    text
}

fn tail(text: &str) -> &str {
    let mut at = text.len() / 50;
    while !text.is_char_boundary(at) {
        at += 1;
    }
    &text[at..]
}

/// 512 KB each of what tokenizers find hard.
pub(crate) fn hard(prose: &str) -> Vec<(&'static str, String)> {
    let size = 512 << 10;
    let mut random = Random::new(7);
    let mut of = |alphabet: &[char]| {
        let mut text = String::new();
        while text.len() < size {
            text.push(alphabet[random.below(alphabet.len())]);
        }
        text
    };
    let range = |from: char, to: char| (from..=to).collect::<Vec<char>>();
    let letters = range('a', 'z');
    let base64 = [range('A', 'Z'), range('a', 'z'), range('0', '9'), vec!['+', '/']].concat();
    let mut first = prose[..prose.len().min(size + 4)].to_owned();
    while first.len() > size {
        first.pop();
    }
    let bytes: Vec<u8> = {
        let mut random = Random::new(11);
        (0..size).map(|_| random.below(256) as u8).collect()
    };
    vec![
        ("prose", first),
        ("one word", of(&letters)),
        ("base64", of(&base64)),
        ("aaaa", "a".repeat(size)),
        ("spaces", " ".repeat(size)),
        ("newlines", "\n".repeat(size)),
        ("random bytes", String::from_utf8_lossy(&bytes).chars().take(size / 2).collect()),
        ("random han", of(&range('\u{4e00}', '\u{9fff}'))),
        ("marks", of(&['\u{301}', '\u{323}', '\u{302}', 'a'])),
    ]
}
