// A weighted semaphore: a share of something (bytes, pixels) for work that goes on at the same time.

/** Work waits, in order, until the amount that it needs is free. What needs more than all waits until it is alone. */
export class Semaphore {
  private readonly total: number;
  private free: number;
  private readonly waiting: { readonly amount: number; start(): void }[] = [];

  constructor(total: number) {
    this.total = total;
    this.free = total;
  }

  async take<T>(wanted: number, work: () => Promise<T>): Promise<T> {
    const amount = Math.min(wanted, this.total);
    await new Promise<void>((start) => {
      this.waiting.push({ amount, start });
      this.admit();
    });
    try {
      return await work();
    } finally {
      this.free += amount;
      this.admit();
    }
  }

  private admit(): void {
    while (this.waiting.length > 0 && this.waiting[0].amount <= this.free) {
      const next = this.waiting.shift();
      this.free -= next?.amount ?? 0;
      next?.start();
    }
  }
}
