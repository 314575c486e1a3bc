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
    "TW": ("台",),
    "GD": ("canton",),
}
_SIMPLIFIED = str.maketrans(
    "內遼寧龍蘇廣東雲貴陝肅慶臺灣門區維爾壯別粵閩滬贛瓊隴晉縣瀋陽長濟島鄭漢廈蘭銀烏魯齊濱無溫煙連",
    "内辽宁龙苏广东云贵陕肃庆台湾门区维尔壮别粤闽沪赣琼陇晋县沈阳长济岛郑汉厦兰银乌鲁齐滨无温烟连",
)
_SUFFIX = re.compile(
    r"(特别行政区|(维吾尔|壮族|回族)?自治区|直辖市|省|市|((zhuang|hui|uyghur|uygur)?autonomousregion)|province"
    r"|municipality|((weiwuer(zu)?|zhuangzu|huizu))?zizhiqu|sheng|shi|city|sar|specialadministrativeregion)$"
)
_CHINA = re.compile(r"^(中国|(pr)?china(?=.))|(?<=.)(中国|(pr)?china)$")
_NOISE = re.compile(r"[\s\-_.'’,()（）]+")


def region_of(text: str) -> str:
    """The code of a region; `UNKNOWN` if the table does not know it.

    Accepts names with and without suffix (北京, 北京市, 广西壮族自治区), simplified or traditional, pinyin and English
    names, one-character names (京), ISO codes (BJ, CN-BJ), GB/T 2260 codes of any depth (11, 110000, 110108), and
    addresses that begin with the name of a unit or of a large city (广东省深圳市, 武汉). A road that has the name of a
    region (南京路) is not that region. A text that names two regions (上海交大南京) is unknown, unless one of them is
    that of a campus (上海交大南京校区).
    """
    plain = _NOISE.sub("", unicodedata.normalize("NFKC", text).strip().removesuffix(".0")).lower()
    plain = _CHINA.sub("", plain.translate(_SIMPLIFIED)).removeprefix("cn" if len(plain) == 4 else "\0")
    if re.fullmatch(r"\d{2}(\d{4}|\d{2}|\d{7}|\d{10})?", plain):
        return _BY_NAME.get(plain[:2], UNKNOWN)
    return _BY_NAME.get(plain) or _BY_NAME.get(_SUFFIX.sub("", plain)) or _of_address(plain)


def _of_address(plain: str) -> str:
    found = [match for match in _IN_ADDRESS.finditer(plain) if not match["road"]]
    if campus := next((match for match in found if match["campus"]), None):
        return _IN_CHINESE[campus["name"]]
    codes = {_IN_CHINESE[match["name"]] for match in found} - {UNKNOWN}
    if not found or found[0].start() or (len(codes) > 1 and not found[0]["unit"]):
        return UNKNOWN
    return _IN_CHINESE[found[0]["name"]]


def _names(region: Region) -> list[str]:
    return [region.code.lower(), region.number, region.zh, region.short, region.en.lower()]


_CITIES: list[tuple[str, str, str]] = re.findall(
    r"(\w+) (\w+) ([A-Z]{2})",
    "石家庄 shijiazhuang HE 太原 taiyuan SX 呼和浩特 hohhot NM 沈阳 shenyang LN 大连 dalian LN 长春 changchun JL "
    "哈尔滨 harbin HL 南京 nanjing JS 苏州 suzhou JS 无锡 wuxi JS 杭州 hangzhou ZJ 宁波 ningbo ZJ 温州 wenzhou ZJ "
    "合肥 hefei AH 福州 fuzhou FJ 厦门 xiamen FJ 泉州 quanzhou FJ 南昌 nanchang JX 济南 jinan SD 青岛 qingdao SD "
    "烟台 yantai SD 郑州 zhengzhou HA 洛阳 luoyang HA 武汉 wuhan HB 长沙 changsha HN 广州 guangzhou GD "
    "深圳 shenzhen GD 佛山 foshan GD 东莞 dongguan GD 珠海 zhuhai GD 南宁 nanning GX 海口 haikou HI 成都 chengdu SC "
    "贵阳 guiyang GZ 昆明 kunming YN 拉萨 lhasa XZ 西安 xian SN 兰州 lanzhou GS 西宁 xining QH 银川 yinchuan NX "
    "乌鲁木齐 urumqi XJ 台北 taipei TW",
)
_BY_NAME = {
    **{pinyin: code for _, pinyin, code in _CITIES},
    **{name: code for code, region in REGIONS.items() for name in _names(region)},
    **{name: code for code, names in _OTHER_NAMES.items() for name in names},
}
_IN_CHINESE: dict[str, str] = {
    **{region.zh: code for code, region in REGIONS.items()},
    **{city: code for city, _, code in _CITIES},
    "内蒙": "NM",
    # places below a province that begin with the name of another
    "海南藏族": "QH",
    "海南州": "QH",
    "河南蒙古族": "QH",
    "河南县": "QH",
    "海南区": "NM",
    "河北区": "TJ",
    "西安区": UNKNOWN,  # there is one in Heilongjiang and one in Jilin
}
_IN_ADDRESS = re.compile(
    rf"(?P<name>{'|'.join(sorted(_IN_CHINESE, key=len, reverse=True))})(?!域)"
    r"(?P<road>[东西南北中]?[一二三四]?(大道|大街|路(?!桥)|街(?!舞)))?"
    r"(?P<unit>省|市|(维吾尔|壮族|回族)?自治区|特别行政区)?(?P<campus>校区|分校)?"
)
