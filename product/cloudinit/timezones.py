"""The time zones of the image: Debian's tzdata, without its package of old names."""

from __future__ import annotations

# The version whose names these are; a test compares it with the image's.
TZDATA = "2026f"

# Area to cities: a host without tzdata, or with more names, judges as the node does.
_AREAS = {
    "Africa": (
        "Abidjan Accra Addis_Ababa Algiers Asmara Bamako Bangui Banjul Bissau Blantyre "
        "Brazzaville Bujumbura Cairo Casablanca Ceuta Conakry Dakar Dar_es_Salaam Djibouti "
        "Douala El_Aaiun Freetown Gaborone Harare Johannesburg Juba Kampala Khartoum Kigali "
        "Kinshasa Lagos Libreville Lome Luanda Lubumbashi Lusaka Malabo Maputo Maseru Mbabane "
        "Mogadishu Monrovia Nairobi Ndjamena Niamey Nouakchott Ouagadougou Porto-Novo Sao_Tome "
        "Timbuktu Tripoli Tunis Windhoek"
    ),
    "America": (
        "Adak Anchorage Anguilla Antigua Araguaina Argentina/Buenos_Aires Argentina/Catamarca "
        "Argentina/Cordoba Argentina/Jujuy Argentina/La_Rioja Argentina/Mendoza "
        "Argentina/Rio_Gallegos Argentina/Salta Argentina/San_Juan Argentina/San_Luis "
        "Argentina/Tucuman Argentina/Ushuaia Aruba Asuncion Atikokan Atka Bahia Bahia_Banderas "
        "Barbados Belem Belize Blanc-Sablon Boa_Vista Bogota Boise Cambridge_Bay Campo_Grande "
        "Cancun Caracas Cayenne Cayman Chicago Chihuahua Ciudad_Juarez Coral_Harbour "
        "Costa_Rica Coyhaique Creston Cuiaba Curacao Danmarkshavn Dawson Dawson_Creek Denver "
        "Detroit Dominica Edmonton Eirunepe El_Salvador Ensenada Fort_Nelson Fortaleza "
        "Glace_Bay Goose_Bay Grand_Turk Grenada Guadeloupe Guatemala Guayaquil Guyana Halifax "
        "Havana Hermosillo Indiana/Indianapolis Indiana/Knox Indiana/Marengo "
        "Indiana/Petersburg Indiana/Tell_City Indiana/Vevay Indiana/Vincennes Indiana/Winamac "
        "Inuvik Iqaluit Jamaica Juneau Kentucky/Louisville Kentucky/Monticello Kralendijk "
        "La_Paz Lima Los_Angeles Lower_Princes Maceio Managua Manaus Marigot Martinique "
        "Matamoros Mazatlan Menominee Merida Metlakatla Mexico_City Miquelon Moncton Monterrey "
        "Montevideo Montreal Montserrat Nassau New_York Nipigon Nome Noronha "
        "North_Dakota/Beulah North_Dakota/Center North_Dakota/New_Salem Nuuk Ojinaga Panama "
        "Pangnirtung Paramaribo Phoenix Port-au-Prince Port_of_Spain Porto_Acre Porto_Velho "
        "Puerto_Rico Punta_Arenas Rainy_River Rankin_Inlet Recife Regina Resolute Rio_Branco "
        "Santa_Isabel Santarem Santiago Santo_Domingo Sao_Paulo Scoresbysund Shiprock Sitka "
        "St_Barthelemy St_Johns St_Kitts St_Lucia St_Thomas St_Vincent Swift_Current "
        "Tegucigalpa Thule Thunder_Bay Tijuana Toronto Tortola Vancouver Virgin Whitehorse "
        "Winnipeg Yakutat Yellowknife"
    ),
    "Antarctica": (
        "Casey Davis DumontDUrville Macquarie Mawson McMurdo Palmer Rothera Syowa Troll Vostok"
    ),
    "Arctic": ("Longyearbyen"),
    "Asia": (
        "Aden Almaty Amman Anadyr Aqtau Aqtobe Ashgabat Atyrau Baghdad Bahrain Baku Bangkok "
        "Barnaul Beirut Bishkek Brunei Chita Chongqing Colombo Damascus Dhaka Dili Dubai "
        "Dushanbe Famagusta Gaza Harbin Hebron Ho_Chi_Minh Hong_Kong Hovd Irkutsk Istanbul "
        "Jakarta Jayapura Jerusalem Kabul Kamchatka Karachi Kashgar Kathmandu Khandyga Kolkata "
        "Krasnoyarsk Kuala_Lumpur Kuching Kuwait Macau Magadan Makassar Manila Muscat Nicosia "
        "Novokuznetsk Novosibirsk Omsk Oral Phnom_Penh Pontianak Pyongyang Qatar Qostanay "
        "Qyzylorda Riyadh Sakhalin Samarkand Seoul Shanghai Singapore Srednekolymsk Taipei "
        "Tashkent Tbilisi Tehran Tel_Aviv Thimphu Tokyo Tomsk Ulaanbaatar Urumqi Ust-Nera "
        "Vientiane Vladivostok Yakutsk Yangon Yekaterinburg Yerevan"
    ),
    "Atlantic": (
        "Azores Bermuda Canary Cape_Verde Faroe Jan_Mayen Madeira Reykjavik South_Georgia "
        "St_Helena Stanley"
    ),
    "Australia": (
        "Adelaide Brisbane Broken_Hill Canberra Currie Darwin Eucla Hobart Lindeman Lord_Howe "
        "Melbourne Perth Sydney Yancowinna"
    ),
    "Etc": (
        "GMT GMT+0 GMT+1 GMT+10 GMT+11 GMT+12 GMT+2 GMT+3 GMT+4 GMT+5 GMT+6 GMT+7 GMT+8 GMT+9 "
        "GMT-0 GMT-1 GMT-10 GMT-11 GMT-12 GMT-13 GMT-14 GMT-2 GMT-3 GMT-4 GMT-5 GMT-6 GMT-7 "
        "GMT-8 GMT-9 GMT0 Greenwich UCT UTC Universal Zulu"
    ),
    "Europe": (
        "Amsterdam Andorra Astrakhan Athens Belfast Belgrade Berlin Bratislava Brussels "
        "Bucharest Budapest Busingen Chisinau Copenhagen Dublin Gibraltar Guernsey Helsinki "
        "Isle_of_Man Istanbul Jersey Kaliningrad Kirov Kyiv Lisbon Ljubljana London Luxembourg "
        "Madrid Malta Mariehamn Minsk Monaco Moscow Nicosia Oslo Paris Podgorica Prague Riga "
        "Rome Samara San_Marino Sarajevo Saratov Simferopol Skopje Sofia Stockholm Tallinn "
        "Tirane Tiraspol Ulyanovsk Vaduz Vatican Vienna Vilnius Volgograd Warsaw Zagreb Zurich"
    ),
    "": ("GMT UTC"),
    "Indian": (
        "Antananarivo Chagos Christmas Cocos Comoro Kerguelen Mahe Maldives Mauritius Mayotte "
        "Reunion"
    ),
    "Pacific": (
        "Apia Auckland Bougainville Chatham Chuuk Easter Efate Fakaofo Fiji Funafuti Galapagos "
        "Gambier Guadalcanal Guam Honolulu Johnston Kanton Kiritimati Kosrae Kwajalein Majuro "
        "Marquesas Midway Nauru Niue Norfolk Noumea Pago_Pago Palau Pitcairn Pohnpei "
        "Port_Moresby Rarotonga Saipan Samoa Tahiti Tarawa Tongatapu Wake Wallis Yap"
    ),
}

ZONES = frozenset(
    f"{area}/{city}" if area else city
    for area, cities in _AREAS.items()
    for city in cities.split(" ")
)

# Present name=old names. tzdata still knows them; the image does not.
_OLD = (
    "Africa/Asmara=Africa/Asmera Africa/Cairo=Egypt Africa/Tripoli=Libya "
    "America/Adak=US/Aleutian America/Anchorage=US/Alaska "
    "America/Argentina/Buenos_Aires=America/Buenos_Aires "
    "America/Argentina/Catamarca=America/Argentina/ComodRivadavia,America/Catamarca "
    "America/Argentina/Cordoba=America/Cordoba,America/Rosario "
    "America/Argentina/Jujuy=America/Jujuy America/Argentina/Mendoza=America/Mendoza "
    "America/Chicago=CST6CDT,US/Central America/Denver=MST7MDT,Navajo,US/Mountain "
    "America/Detroit=US/Michigan America/Edmonton=Canada/Mountain "
    "America/Halifax=Canada/Atlantic America/Havana=Cuba "
    "America/Indiana/Indianapolis=America/Fort_Wayne,America/Indianapolis,US/East-Indiana "
    "America/Indiana/Knox=America/Knox_IN,US/Indiana-Starke America/Jamaica=Jamaica "
    "America/Kentucky/Louisville=America/Louisville America/Los_Angeles=PST8PDT,US/Pacific "
    "America/Manaus=Brazil/West America/Mazatlan=Mexico/BajaSur "
    "America/Mexico_City=Mexico/General America/New_York=EST5EDT,US/Eastern "
    "America/Noronha=Brazil/DeNoronha America/Nuuk=America/Godthab America/Panama=EST "
    "America/Phoenix=MST,US/Arizona America/Regina=Canada/Saskatchewan "
    "America/Rio_Branco=Brazil/Acre America/Santiago=Chile/Continental "
    "America/Sao_Paulo=Brazil/East America/St_Johns=Canada/Newfoundland "
    "America/Tijuana=Mexico/BajaNorte America/Toronto=Canada/Eastern "
    "America/Vancouver=Canada/Pacific America/Whitehorse=Canada/Yukon "
    "America/Winnipeg=Canada/Central Antarctica/McMurdo=Antarctica/South_Pole "
    "Asia/Ashgabat=Asia/Ashkhabad Asia/Dhaka=Asia/Dacca Asia/Ho_Chi_Minh=Asia/Saigon "
    "Asia/Hong_Kong=Hongkong Asia/Jerusalem=Israel Asia/Kathmandu=Asia/Katmandu "
    "Asia/Kolkata=Asia/Calcutta Asia/Macau=Asia/Macao Asia/Makassar=Asia/Ujung_Pandang "
    "Asia/Seoul=ROK Asia/Shanghai=Asia/Chungking,PRC Asia/Singapore=Singapore "
    "Asia/Taipei=ROC Asia/Tehran=Iran Asia/Thimphu=Asia/Thimbu Asia/Tokyo=Japan "
    "Asia/Ulaanbaatar=Asia/Choibalsan,Asia/Ulan_Bator Asia/Yangon=Asia/Rangoon "
    "Atlantic/Faroe=Atlantic/Faeroe Atlantic/Reykjavik=Iceland "
    "Australia/Adelaide=Australia/South Australia/Brisbane=Australia/Queensland "
    "Australia/Darwin=Australia/North Australia/Hobart=Australia/Tasmania "
    "Australia/Lord_Howe=Australia/LHI Australia/Melbourne=Australia/Victoria "
    "Australia/Perth=Australia/West Australia/Sydney=Australia/ACT,Australia/NSW "
    "Etc/GMT=GMT+0,GMT-0,GMT0,Greenwich Etc/UTC=UCT,Universal,Zulu Europe/Athens=EET "
    "Europe/Brussels=CET,MET Europe/Dublin=Eire Europe/Istanbul=Turkey "
    "Europe/Kyiv=Europe/Kiev,Europe/Uzhgorod,Europe/Zaporozhye Europe/Lisbon=Portugal,WET "
    "Europe/London=GB,GB-Eire Europe/Moscow=W-SU Europe/Warsaw=Poland Pacific/Auckland=NZ "
    "Pacific/Chatham=NZ-CHAT Pacific/Chuuk=Pacific/Truk Pacific/Easter=Chile/EasterIsland "
    "Pacific/Honolulu=HST,US/Hawaii Pacific/Kanton=Pacific/Enderbury "
    "Pacific/Kwajalein=Kwajalein Pacific/Pago_Pago=US/Samoa Pacific/Pohnpei=Pacific/Ponape"
)


def present_name(old: str) -> str | None:
    """The zone that an old name, or a city alone, stands for."""
    for entry in _OLD.split(" "):
        zone, _, names = entry.partition("=")
        if old in names.split(","):
            return zone
    city = old.strip().replace(" ", "_").lower()
    return next((zone for zone in sorted(ZONES) if zone.lower().endswith(f"/{city}")), None)
