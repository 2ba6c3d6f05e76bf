//! A table held against a reference on a built-in corpus.
//!
//! The compiler's arguments are proofs on paper; a model's traffic is not the place to
//! find out that one of them missed a case. Publishing a table without this check is
//! wrong; so is trusting it alone, which is why the tests sweep much more.

use std::fmt::Write as _;

use crate::encoder::Encoder;

/// A text on which table and reference differ.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the compiled table differs from the library on text {text:?} at token {at}: serve this model by the library and report its tokenizer.json"
)]
pub struct Mismatch {
    /// The text (of the built-in corpus, or passed to [`verify`]; never a client's).
    pub text: String,
    /// Index of the first token that differs.
    pub at: usize,
}

/// Encodes the built-in [`corpus`] and the `extra` texts (the model's rendered
/// template, say) by both, and says how many texts were compared.
///
/// # Errors
/// The first [`Mismatch`].
pub fn verify(
    encoder: &Encoder,
    extra: &[String],
    mut reference: impl FnMut(&str) -> Vec<u32>,
) -> Result<usize, Mismatch> {
    let corpus = corpus();
    let mut ids = Vec::new();
    for text in corpus.iter().chain(extra) {
        ids.clear();
        encoder.encode(text, &mut ids);
        let expected = reference(text);
        if ids != expected {
            let at = ids.iter().zip(&expected).take_while(|(a, b)| a == b).count();
            return Err(Mismatch { text: text.clone(), at });
        }
    }
    Ok(corpus.len() + extra.len())
}

const SCRIPTS: &[&str] = &[
    "The quick brown fox jumps over the lazy dog; it'll do so again, won't it? I'VE seen IT'S.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy. Œuvre, naïve, Straße, ĲSSELMEER, ŉ ǅ ﬃ.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. ЁЖИК",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ΑΣ ας",
    "العربية لغة جميلة، ١٢٣٤٥ نصٌّ مُشَكَّل بالكامل",
    "דג סקרן שט בים מאוכזב. בְּרֵאשִׁית בָּרָא אֱלֹהִים",
    "敏捷的棕色狐狸跳过了懒狗。人工智能模型，二〇二六年！「引用」",
    "いろはにほへと ちりぬるを カタカナ ﾊﾝｶｸ 東京タワー、がぎぐげご",
    "키스의 고유조건은 입술끼리 만나야 하고 각별한 기술은 필요치 않다",
    "नमस्ते दुनिया, क्षत्रिय ज्ञान १२३ हिन्दी",
    "বাংলা ভাষা ৪৫৬ আমি বাংলায় গান গাই",
    "தமிழ் மொழி மிகவும் பழமையானது",
    "ภาษาไทยไม่มีการเว้นวรรคระหว่างคำ ๑๒๓",
    "ລາວ ພາສາລາວ ພະຍັນຊະນະ",
    "မြန်မာဘာသာစကား ဖြစ်ပါတယ်",
    "ភាសាខ្មែរ គឺជាភាសា",
    "ქართული ენა არის ლამაზი Ა Ⴀ",
    "Հայերեն լեզու ԱՅԲ ուև",
    "አማርኛ ቋንቋ ፩፪፫",
    "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ꮳꮃꭹ",
    "తెలుగు భాష ಕನ್ನಡ ಭಾಷೆ മലയാളം ભાષા ਪੰਜਾਬੀ සිංහල",
    "བོད་སྐད་ ᠮᠣᠩᠭᠣᠯ ᐃᓄᒃᑎᑐᑦ ꦗꦮ ⵜⴰⵎⴰⵣⵉⵖⵜ",
    "Tiếng Việt có dấu: Tiê\u{301}ng Viê\u{323}t, o\u{31b}\u{301} ơ\u{301}",
    "e\u{301} e\u{300}\u{323} \u{1100}\u{1161}\u{11a8} 각\u{11a8} \u{212b} \u{2126} \u{958}\u{9a1}\u{9bc} \u{344} \u{f73}\u{f71}",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 ☺️ ❤️‍🔥 1️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ✂︎ 🤷🏿‍♂️!!!",
    "𝒜𝓁𝓅𝒽𝒶 𝟘𝟙𝟚 ⅷ Ⅻ ½ ⁴ ₅ ㊿ 𐍈 𓀀 𐑖 \u{1f130}\u{e0041}",
];

const CODE: &[&str] = &[
    "fn main() {\n    let x: Vec<u8> = vec![0; 1024];\n\tprintln!(\"{:?}\", &x[..10]);\n}\n\n\n",
    "def f(a, b=None, *args, **kw):\r\n    return {k: v for k, v in kw.items() if v != 'x'}\r\n",
    "import (\n\t\"fmt\"\n\t\"os\"\n)\n\nfunc main() {\n\tfmt.Println(os.Args[1:])\n}\n",
    "{\"id\":1234567890,\"a\":[1,2.5,-3e10,null,true],\"s\":\"\\u00e9\\n\\\"q\\\"\",\"nested\":{\"k\":{}}}",
    "SELECT * FROM t WHERE a >= 10 AND b <> 'O''Brien' -- comment\n/* x */;",
    "<div class=\"a b\">&nbsp;<a href='https://example.org/?q=1&r=%20'>x</a></div><!-- c -->",
    "#include <stdio.h>\nint main(void){for(int i=0;i<10;++i)printf(\"%d\\n\",i);return 0;}",
    "$ curl -sSL https://example.org/install.sh | bash -s -- --yes && echo $? # done",
    "| a | b |\n|---|:-:|\n| `x` | **y** |\n\n- [ ] item\n  1. sub\n> quote\n\n```rust\n```",
    "\\begin{align} \\frac{1}{2} &= \\sum_{i=0}^{\\infty} x_i^2 \\\\ \\end{align}",
];

/// The texts of [`verify`]: prose in many scripts, code, marks, white space, runs,
/// digits, contractions, markers of chat templates inside text.
#[must_use]
pub fn corpus() -> Vec<String> {
    let mut texts: Vec<String> =
        ["", " ", "\n", "a", " a", "\u{2581}", "\u{0}", "\u{feff}x"].map(String::from).to_vec();
    texts.extend(SCRIPTS.iter().chain(CODE).map(|text| (*text).to_owned()));
    texts.extend(pairs());
    texts.extend(spaces());
    texts.extend(runs());
    texts.extend(markers());
    texts.extend(blocks());
    texts
}

/// Each script next to code, and each twice with other things between.
fn pairs() -> Vec<String> {
    let mut texts = Vec::new();
    for (i, script) in SCRIPTS.iter().enumerate() {
        let code = CODE.get(i % CODE.len()).copied().unwrap_or_default();
        texts.push(format!("{script}\n\n{code}{script}"));
        texts.push(format!("  {script}  "));
        texts.push(script.to_uppercase());
        texts.push(script.to_lowercase().replace(' ', "\u{a0}"));
        texts.push(script.chars().rev().collect());
    }
    texts
}

fn spaces() -> Vec<String> {
    const SPACES: &[&str] = &[
        " ", "  ", "\t", "\n", "\r\n", "\r", "\u{a0}", "\u{3000}", "\u{2003}", "\u{85}", "\u{b}",
        "\u{2028}",
    ];
    let mut texts = Vec::new();
    for a in SPACES {
        for b in SPACES {
            texts.push(format!("x{a}{b}y"));
            texts.push(format!("{a}{b}{a}1{b}{a}{b}!"));
            texts.push(format!("{a}{a}{a}{b}"));
        }
        for n in [3, 7, 8, 16, 33, 64, 65, 130, 300] {
            texts.push(a.repeat(n));
            texts.push(format!("end.{}Next", a.repeat(n)));
            texts.push(format!("{}\u{2581}\u{2581}{}é", a.repeat(n), a.repeat(n)));
        }
    }
    texts
}

fn runs() -> Vec<String> {
    let mut texts = Vec::new();
    for unit in [
        "a", "ab", "A", "7", "=", "-", "é", "中", "का", "👍", "'s", ".,", "xyz9", "\u{301}", "ﬁ",
        "_", "aA",
    ] {
        for n in [2, 3, 5, 9, 17, 40, 64, 65, 200, 1000] {
            texts.push(unit.repeat(n));
            texts.push(format!(" {}!", unit.repeat(n)));
        }
    }
    let mut state = 1u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for alphabet in [
        "abcdefghijklmnopqrstuvwxyz",
        "ABCdefGHI",
        "0123456789abcdef",
        "etaoin shrdlu",
        "ab",
        "的一是在不了有和人这",
    ] {
        let letters: Vec<char> = alphabet.chars().collect();
        for n in [10, 50, 63, 64, 66, 100, 500, 3000] {
            texts.push((0..n).filter_map(|_| letters.get(random(letters.len()))).collect());
        }
    }
    for n in 1..=12 {
        texts.push("1234567890".repeat(2).chars().take(n).collect::<String>() + "th");
        texts.push(format!("x{}y", "9".repeat(n)));
    }
    for word in [
        "can't",
        "CAN'T",
        "we'll",
        "I'd've",
        "they’re",
        "'tis",
        "rock'n'roll",
        "it'S",
        "x'ſ",
        "'Re",
        "''ll",
        "o'clock",
    ] {
        texts.push(format!("{word} {word}{word} \"{word}\""));
    }
    texts
}

fn markers() -> Vec<String> {
    const MARKERS: &[&str] = &[
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|begin_of_text|>",
        "<|eot_id|>",
        "<|start_header_id|>",
        "<|reserved_special_token_1|>",
        "<s>",
        "</s>",
        "<unk>",
        "[INST]",
        "[/INST]",
        "<tool_call>",
        "</tool_call>",
        "<think>",
        "<|channel|>",
        "<|message|>",
        "<|start|>",
        "<｜begin▁of▁sentence｜>",
        "<start_of_turn>",
        "<pad>",
        "[MASK]",
        "<0x0A>",
        "<|",
        "|>",
        "<",
    ];
    let mut texts = Vec::new();
    for (i, marker) in MARKERS.iter().enumerate() {
        let other = MARKERS.get((i * 7 + 3) % MARKERS.len()).copied().unwrap_or_default();
        texts.push((*marker).to_owned());
        texts.push(format!("{marker}user\nHello there{other}\n{marker}assistant\n"));
        texts.push(format!("a{marker}b {other} c  {marker}  d\t{other}{marker}"));
        texts.push(format!("{marker} é{other}\u{301}x{marker}\u{301}"));
        texts.push(marker.chars().flat_map(|c| [c, c]).collect());
        let cut: String = marker.chars().take(marker.chars().count().saturating_sub(1)).collect();
        texts.push(format!("{cut}{marker}{cut} {cut}"));
    }
    texts
}

/// Every 29th character of Unicode's first planes, alone, after a letter, after a space.
fn blocks() -> Vec<String> {
    let mut texts = Vec::new();
    for start in (0..0x2_0000u32).step_by(29 * 64) {
        let mut text = String::new();
        for c in (start..start + 29 * 64).step_by(29).filter_map(char::from_u32) {
            let _ = write!(text, "{c}a{c} {c}");
        }
        texts.push(text);
    }
    texts
}
