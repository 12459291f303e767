// Headless Chromium over pages on disk, where the machine has it (Debian's package `chromium`).
import { existsSync } from "node:fs";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { chromium } from "playwright-core";

const places = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
/** The browser's file; undefined where there is none. */
export const browserPath: string | undefined = [process.env.CHROMIUM_PATH, ...places].find(
  (path) => path !== undefined && existsSync(path),
);

/** A bound against hanging alone: Playwright's own of 30 s is reached on a loaded machine. */
const timeout = 300_000;

export function openBrowser(args: readonly string[] = []): Promise<Browser> {
  return chromium.launch({ executablePath: browserPath, args: ["--no-sandbox", ...args], timeout });
}

/** A page in a context of its own, which waits as long as a loaded machine needs. */
export async function newPage(browser: Browser, options: BrowserContextOptions = {}): Promise<Page> {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(timeout);
  return context.newPage();
}

export interface PageOptions {
  readonly width?: number;
  readonly dark?: boolean;
}

/** A page of a file, and what went wrong or left the page while it was open. */
export async function openPage(
  browser: Browser,
  file: string,
  { width = 1200, dark = false }: PageOptions = {},
): Promise<{ page: Page; complaints: string[] }> {
  const page = await newPage(browser, {
    viewport: { width, height: 900 },
    colorScheme: dark ? "dark" : "light",
    bypassCSP: false,
  });
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("dialog", (dialog) => {
    complaints.push(`dialog ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith("data:") && url !== `file://${encodeURI(file)}`)
      complaints.push(`request ${url.slice(0, 100)}`);
  });
  await page.goto(`file://${encodeURI(file)}`);
  return { page, complaints };
}
