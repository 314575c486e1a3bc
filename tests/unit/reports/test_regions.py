"""Every way in which tables name the 34 units."""

import pytest

from reports.manifest.regions import REGIONS, UNKNOWN, region_of

FULL = {
    "NM": "内蒙古自治区",
    "GX": "广西壮族自治区",
    "XZ": "西藏自治区",
    "NX": "宁夏回族自治区",
    "XJ": "新疆维吾尔自治区",
    "BJ": "北京市",
    "TJ": "天津市",
    "SH": "上海市",
    "CQ": "重庆市",
    "HK": "香港特别行政区",
    "MO": "澳门特别行政区",
}


def test_there_are_34_units_on_34_tiles() -> None:
    assert len(REGIONS) == 34
    assert len({(region.column, region.row) for region in REGIONS.values()}) == 34
    assert len({region.number for region in REGIONS.values()}) == 34


@pytest.mark.parametrize("code", REGIONS)
def test_a_unit_is_found_by_all_its_names(code: str) -> None:
    region = REGIONS[code]
    names = [
        region.zh,
        FULL.get(code, f"{region.zh}省"),
        region.short,
        region.en,
        region.en.upper(),
        f"{region.en} Province",
    ]
    codes = [code, f"CN-{code}", code.lower(), region.number, f"{region.number}0000", f"{region.number}0108"]
    for name in [*names, *codes, f"  {region.zh} ", f"中国{region.zh}", f"{region.zh}省某市某区"]:
        assert region_of(name) == code, name


OTHERS = {
    "Inner Mongolia": "NM",
    "Tibet": "XZ",
    "Hong Kong SAR": "HK",
    "Macao": "MO",
    "Shaanxi": "SN",
    "Shanxi": "SX",
    "guangxi zhuangzu zizhiqu": "GX",
    "广东省深圳市": "GD",
    "武汉市": "HB",
    "ＢＪ": "BJ",
    "臺灣": "TW",
    "110000.0": "BJ",
    "Guangxi Zhuang Autonomous Region": "GX",
    "Xinjiang Uygur Autonomous Region": "XJ",
    "Ningxia Hui Autonomous Region": "NX",
    "Hong Kong Special Administrative Region": "HK",
    "Beijing, China": "BJ",
    "Sichuan, P.R. China": "SC",
    "内蒙": "NM",
    "廣東": "GD",
    "澳門": "MO",
    "內蒙古自治區": "NM",
    "黑龍江省哈爾濱市": "HL",
    "粵": "GD",
    "Shenzhen": "GD",
    "Xi'an City": "SN",
    "佛山": "GD",
    "东莞市": "GD",
    "海南藏族自治州": "QH",
    "海南州": "QH",
    "青海省海南藏族自治州": "QH",
    "河南蒙古族自治县": "QH",
    "天津市河北区": "TJ",
    "黑龙江西安区": "HL",
    "河北区域中心": "HE",
    "上海交大南京校区": "JS",
    "江苏省南京市上海路": "JS",
    "江苏南京北京西路": "JS",
    "上海市南京东路": "SH",
    "山西安康里": "SX",
    "四川路桥学校": "SC",
}


@pytest.mark.parametrize(("name", "code"), OTHERS.items())
def test_other_names(name: str, code: str) -> None:
    assert region_of(name) == code


NO_UNITS = ["南京路(校区)", "北京路小学", "四川北路", "上海交大南京", "西安区", "China"]


@pytest.mark.parametrize("name", ["", " ", "火星省", "Atlantis", "99", "省", "1", "123", *NO_UNITS])
def test_what_is_no_unit_is_unknown(name: str) -> None:
    assert region_of(name) == UNKNOWN
