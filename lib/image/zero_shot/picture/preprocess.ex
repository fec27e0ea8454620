defmodule Image.ZeroShot.Picture.Preprocess do
  @moduledoc false

  # Turns pictures into pixels on the native library's own threads. No scheduler is blocked, and a caller
  # that gives up finds no message left over.

  alias Image.ZeroShot.{Error, Native, Source}
  alias Image.ZeroShot.Call.Deadline
  alias Image.ZeroShot.Call.Callers
  alias Image.ZeroShot.Serving.Lease

  @typedoc "The side of the model's patches in pixels, and whether to return the picture for drawing."
  @type show :: %{patch: pos_integer(), view: boolean()}

  @typedoc """
  The pixels; the upright picture's `{width, height}`; the part of it that the patches cover, as `{left,
  top, width, height}`; and the picture for drawing, or `nil`.
  """
  @type shown :: %{
          pixels: binary(),
          size: {pos_integer(), pos_integer()},
          window: {float(), float(), float(), float()},
          view: map() | nil
        }

  @doc """
  The pixels for a model: u8, 3 x height x width, already resized and cropped.

  Waits for them until the deadline, and while the process lives that `monitor` watches. With `show`,
  returns also what is needed to show where the model looked.
  """
  @spec run(Source.source(), map(), map(), Deadline.t(), reference(), show() | nil) ::
          {:ok, binary() | shown()} | {:error, Error.t()}
  def run(source, preprocessing, limits, deadline, monitor \\ make_ref(), show \\ nil) do
    tag = make_ref()
    timeout = deadline |> Deadline.remaining() |> timeout()
    turn = {Callers.owner(), timeout}
    submitted = Native.preprocess(tag, source, preprocessing, limits, turn, show)

    with {:ok, job} <- Error.from_native(submitted) do
      receive do
        {^tag, answer} -> Error.from_native(answer)
        {:DOWN, ^monitor, :process, _server, reason} -> cancel(job, tag, serving_down(reason))
      after
        Deadline.remaining(deadline) -> cancel(job, tag, too_late())
      end
    end
  end

  defp timeout(:infinity), do: nil
  defp timeout(left), do: left

  defp cancel(job, tag, error) do
    case Native.preprocess_cancel(job) do
      {:ok, :cancelled} -> error
      {:ok, :sent} -> receive do: ({^tag, answer} -> Error.from_native(answer))
    end
  end

  defp too_late do
    Error.error(
      :timeout,
      "the call timed out while its picture was decoded; send a smaller one or raise :timeout"
    )
  end

  # A serving of another node says why.
  defp serving_down({:shutdown, %Error{} = error}), do: {:error, error}

  defp serving_down(:normal), do: Lease.unloaded()

  defp serving_down(_reason) do
    Error.error(
      :serving_down,
      "the serving terminated while the picture was being decoded; try again"
    )
  end
end
