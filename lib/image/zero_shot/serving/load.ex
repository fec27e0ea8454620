defmodule Image.ZeroShot.Serving.Load do
  @moduledoc false

  # Loads a model: the task under way, the last error, and the time of the next try.
  #
  # The task is a process of its own, so that the server can answer meanwhile and can be stopped. A model
  # that was loaded before is retried with backoff until it is back. A model that never loaded is tried
  # once.

  alias Image.ZeroShot.{Error, Serving, Telemetry}
  alias Image.ZeroShot.Serving.Runners

  @first_pause_ms 1_000
  @longest_pause_ms 60_000

  defstruct [:facts, :task, :error, :next_try, failures: 0]

  @typedoc """
  `:facts` are those of the model when it was loaded last, `nil` if it never was. `:next_try` is in
  milliseconds of monotonic time.
  """
  @type t :: %__MODULE__{
          facts: Serving.info() | nil,
          task: Task.t() | nil,
          error: Error.t() | nil,
          next_try: integer() | nil,
          failures: non_neg_integer()
        }

  @spec start(t(), map()) :: t()
  def start(load, opts) do
    task =
      Task.async(fn ->
        Telemetry.span(:load, %{repo: Map.get(opts, :repo)}, fn -> Runners.of(opts).open(opts) end)
      end)

    %{load | task: task, next_try: nil}
  end

  @spec stop(t()) :: t()
  def stop(%{task: nil} = load), do: load

  def stop(load) do
    Task.shutdown(load.task, :brutal_kill)
    %{load | task: nil}
  end

  @spec done(t(), Serving.info()) :: t()
  def done(_load, info), do: %__MODULE__{facts: info}

  @doc """
  Decides what follows a failed load: `{pause, load}` retries after that many milliseconds.
  """
  @spec failed(t(), Error.t()) :: {pos_integer(), t()} | :over
  def failed(%{facts: nil}, _error), do: :over

  def failed(load, error) do
    pause = min(@first_pause_ms * 2 ** min(load.failures, 10), @longest_pause_ms)
    next_try = System.monotonic_time(:millisecond) + pause

    {pause, %{load | task: nil, error: error, next_try: next_try, failures: load.failures + 1}}
  end

  @doc """
  What `Image.ZeroShot.info/1` tells of it.
  """
  @spec describe(t()) :: map()
  def describe(load) do
    %{state: state(load), last_error: load.error, retry_in: retry_in(load.next_try)}
  end

  defp state(%{task: task}) when task != nil, do: :loading
  defp state(%{error: error}) when error != nil, do: :failed
  defp state(_loaded), do: :ready

  defp retry_in(nil), do: nil
  defp retry_in(next_try), do: max(next_try - System.monotonic_time(:millisecond), 0)
end
