defmodule Image.ZeroShot.Hub.Announcer do
  @moduledoc false

  # Logs a download without a watcher: otherwise the first call of an application seems to hang.
  #
  # A process of its own, because the one that downloads is inside the native library. It ends when
  # that one ends, and the download ends with it.

  require Logger

  alias Image.ZeroShot.Hub.Progress

  @spec start(String.t()) :: pid()
  def start(name) do
    owner = self()

    spawn(fn ->
      Process.monitor(owner)
      loop(name, Progress.new(:bytes), _announced = false)
    end)
  end

  @spec stop(pid()) :: :ok
  def stop(announcer) do
    send(announcer, :stop)
    :ok
  end

  defp loop(name, progress, announced) do
    receive do
      {:hub_progress, %{total: total, done: done} = step} when total > done or announced ->
        if not announced, do: Logger.info("downloading #{name}, #{Progress.size(total - done)}")
        {line, progress} = progress |> Progress.update(step, now()) |> Progress.line(now())
        if line, do: Logger.info("downloading #{name}: #{String.trim(line)}")
        loop(name, progress, true)

      {:hub_progress, _nothing_to_download} ->
        loop(name, progress, announced)

      :stop ->
        :ok

      {:DOWN, _monitor, :process, _owner, _reason} ->
        :ok
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
