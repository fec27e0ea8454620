defmodule Image.ZeroShot.Preprocess do
  @moduledoc false

  # Pictures to pixels, on the native library's own threads: no scheduler is kept busy, and nothing
  # is left in the mailbox of who gives up.

  alias Image.ZeroShot.{Error, Native, Source}

  @typedoc "A moment of `System.monotonic_time(:millisecond)`."
  @type deadline :: integer() | :infinity

  @doc """
  The pixels for a model: u8, 3 x height x width, already resized and cropped.
  """
  @spec run(Source.source(), map(), map(), deadline()) :: {:ok, binary()} | {:error, Error.t()}
  def run(source, preprocessing, limits, deadline) do
    tag = make_ref()

    with {:ok, job} <- Error.from_native(Native.preprocess(tag, source, preprocessing, limits)) do
      receive do
        {^tag, answer} -> Error.from_native(answer)
      after
        left(deadline) -> cancel(job, tag)
      end
    end
  end

  defp left(:infinity), do: :infinity
  defp left(deadline), do: max(deadline - System.monotonic_time(:millisecond), 0)

  defp cancel(job, tag) do
    case Native.preprocess_cancel(job) do
      {:ok, :cancelled} ->
        Error.error(
          :timeout,
          "the picture was not decoded and resized in time; allow more time, or hand in fewer or " <>
            "smaller pictures at once"
        )

      {:ok, :sent} ->
        receive do: ({^tag, answer} -> Error.from_native(answer))
    end
  end
end
