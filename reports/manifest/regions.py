"""The 34 province-level units of China: one code each, whatever a table calls them.

Codes are the letters of ISO 3166-2:CN; numbers are the first two digits of GB/T 2260. `column` and `row` place a unit
on the tile map, which has one square per unit and draws no border (docs/decisions.md).
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Region:
    """One unit: ISO letters, GB/T 2260 number, Chinese name, one-character name, pinyin or English name, place."""

    code: str
    number: str
    zh: str
    short: str
    en: str
    column: int
    row: int


_TABLE = """
BJ 11 北京 京 Beijing 6 1
TJ 12 天津 津 Tianjin 6 2
HE 13 河北 冀 Hebei 5 2
SX 14 山西 晋 Shanxi 4 2
NM 15 内蒙古 蒙 Neimenggu 5 1
LN 21 辽宁 辽 Liaoning 7 2
JL 22 吉林 吉 Jilin 7 1
HL 23 黑龙江 黑 Heilongjiang 7 0
SH 31 上海 沪 Shanghai 7 4
JS 32 江苏 苏 Jiangsu 6 3
ZJ 33 浙江 浙 Zhejiang 6 4
AH 34 安徽 皖 Anhui 5 4
FJ 35 福建 闽 Fujian 6 5
JX 36 江西 赣 Jiangxi 5 5
SD 37 山东 鲁 Shandong 5 3
HA 41 河南 豫 Henan 4 3
HB 42 湖北 鄂 Hubei 4 4
HN 43 湖南 湘 Hunan 4 5
GD 44 广东 粤 Guangdong 4 6
GX 45 广西 桂 Guangxi 3 6
HI 46 海南 琼 Hainan 3 7
CQ 50 重庆 渝 Chongqing 3 4
SC 51 四川 川 Sichuan 2 4
GZ 52 贵州 黔 Guizhou 3 5
YN 53 云南 滇 Yunnan 2 5
XZ 54 西藏 藏 Xizang 0 3
SN 61 陕西 陕 Shaanxi 3 3
GS 62 甘肃 甘 Gansu 2 2
QH 63 青海 青 Qinghai 1 3
NX 64 宁夏 宁 Ningxia 3 2
XJ 65 新疆 新 Xinjiang 0 2
TW 71 台湾 台 Taiwan 7 5
HK 81 香港 港 Xianggang 6 6
MO 82 澳门 澳 Aomen 5 6
"""

REGIONS: Mapping[str, Region] = MappingProxyType(
    {
        code: Region(code, number, zh, short, en, int(column), int(row))
        for code, number, zh, short, en, column, row in (line.split() for line in _TABLE.strip().splitlines())
    }
)
"""Code -> unit, all 34."""

UNKNOWN = ""
"""The code of a region that is not in the table."""

_OTHER_NAMES = {
    "NM": ("innermongolia", "neimongol", "nmg"),
    "XZ": ("tibet",),
    "HK": ("hongkong",),
    "MO": ("macao", "macau"),
    "SN": ("秦",),
    "SC": ("蜀",),
    "GZ": ("贵",),
    "YN": ("云",),
    "GS": ("陇",),
    "TW": ("臺灣", "臺", "taipei"),
    "GD": ("canton",),
}
_SUFFIX = re.compile(
    r"(特别行政区|(维吾尔|壮族|回族)?自治区|直辖市|省|市|(autonomousregion)|province|municipality|((weiwuer(zu)?|zhuangzu|huizu))?zizhiqu|sheng|shi|city|sar)$"
)
_NOISE = re.compile(r"[\s\-_.'’,()（）]+")


def region_of(text: str) -> str:
    """The code of a region; `UNKNOWN` if the table does not know it.

    Accepts names with and without suffix (北京, 北京市, 广西壮族自治区), pinyin and English names, one-character names
    (京), ISO codes (BJ, CN-BJ), GB/T 2260 codes of any depth (11, 110000, 110108), and addresses that begin with the
    name of a unit or of a large city (广东省深圳市, 武汉).
    """
    plain = _NOISE.sub("", unicodedata.normalize("NFKC", text).strip().removesuffix(".0")).lower()
    plain = plain.removeprefix("中国").removeprefix("cn" if len(plain) == 4 else "\0")
    if re.fullmatch(r"\d{2}(\d{4}|\d{2}|\d{7}|\d{10})?", plain):
        return _BY_NAME.get(plain[:2], UNKNOWN)
    bare = _SUFFIX.sub("", plain)
    found = _BY_NAME.get(plain) or _BY_NAME.get(bare)
    return found or next((code for name, code in _CHINESE if plain.startswith(name)), UNKNOWN)


def _names(region: Region) -> list[str]:
    return [region.code.lower(), region.number, region.zh, region.short, region.en.lower()]


_BY_NAME = {
    **{name: code for code, region in REGIONS.items() for name in _names(region)},
    **{name: code for code, names in _OTHER_NAMES.items() for name in names},
}
_CITIES = (
    "石家庄HE 太原SX 呼和浩特NM 沈阳LN 大连LN 长春JL 哈尔滨HL 南京JS 苏州JS 杭州ZJ 宁波ZJ 合肥AH 福州FJ 厦门FJ 南昌JX "
    "济南SD 青岛SD 郑州HA 武汉HB 长沙HN 广州GD 深圳GD 南宁GX 海口HI 成都SC 贵阳GZ 昆明YN 拉萨XZ 西安SN 兰州GS 西宁QH "
    "银川NX 乌鲁木齐XJ 台北TW"
)
_CHINESE = [
    *((region.zh, code) for code, region in REGIONS.items()),
    *((word[:-2], word[-2:]) for word in _CITIES.split()),
    ("臺灣", "TW"),
]
