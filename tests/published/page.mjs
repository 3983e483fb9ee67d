// Looks at the customers' page in Chromium, without script, as a phone and as a desk has it, by day and
// by night: node page.mjs CHROMIUM URL [FOLDER]. Says as one line of JSON what it found on each; into
// FOLDER go pictures for people to look at.
import puppeteer from "puppeteer-core";

const [chromium, url, folder] = process.argv.slice(2);

const WIDTHS = [390, 1280];
const SCHEMES = ["light", "dark"];
const PAGES = ["?lang=ja", "?lang=en", "index.html", "index.en.html"];

const browser = await puppeteer.launch({
  executablePath: chromium,
  headless: true,
  // Chromium's own sandbox needs what containers do not give, and the page is ours.
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"],
});
try {
  const seen = [];
  for (const path of PAGES) {
    for (const width of WIDTHS) {
      for (const scheme of SCHEMES) {
        seen.push(await look(path, width, scheme));
      }
    }
  }
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
}

async function look(path, width, scheme) {
  const page = await browser.newPage();
  const complaints = [];
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.setJavaScriptEnabled(false);
  await page.setViewport({ width, height: 844, isMobile: width < 500, hasTouch: width < 500 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  const answer = await page.goto(new URL(path, url));
  const found = await page.evaluate(judge);
  if (folder) {
    const name = `${path.replace(/\W/g, "-")}-${width}-${scheme}.png`;
    await page.screenshot({ path: `${folder}/${name}`, fullPage: true });
  }
  await page.close();
  return { path, width, scheme, status: answer.status(), complaints, ...found };
}

// Runs in the page.
function judge() {
  const channel = (value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  };
  const numbers = (color) => color.match(/[\d.]+/g).map(Number);
  // WCAG 2.2, relative luminance and contrast ratio.
  const luminance = ([red, green, blue]) =>
    0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
  const paper = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = numbers(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  let contrast = { ratio: Infinity, text: "" };
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = node.data.trim();
    const element = node.parentElement;
    if (!text || element.getClientRects().length === 0) continue;
    texts += 1;
    const [ink, sheet] = [numbers(getComputedStyle(element).color), paper(element)].map(luminance);
    const ratio = (Math.max(ink, sheet) + 0.05) / (Math.min(ink, sheet) + 0.05);
    if (ratio < contrast.ratio) contrast = { ratio, text };
  }
  const links = [...document.querySelectorAll("a")].map((link) => link.getAttribute("href"));
  const headings = [...document.querySelectorAll("h1, h2, h3")].map((one) => Number(one.tagName[1]));
  const beyond = [...document.querySelectorAll("body *")]
    .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5)
    .filter((one) => getComputedStyle(one).position !== "absolute" && !one.closest("thead"))
    .map((one) => `${one.tagName} ${one.textContent.trim().slice(0, 40)}`);
  return {
    title: document.title,
    lang: document.documentElement.lang,
    paper: getComputedStyle(document.body).backgroundColor,
    text: document.body.innerText,
    scripts: document.querySelectorAll("script, [onclick], [onload]").length,
    overflow: document.documentElement.scrollWidth - innerWidth,
    beyond,
    texts,
    contrast,
    links,
    headings,
  };
}
